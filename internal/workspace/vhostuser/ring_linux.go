package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"
)

// Layout of a split virtqueue: virtio 1.2, section 2.7.
const (
	maxQueueSize = 1024

	descSize      = 16
	availHeadroom = 4 // flags, idx
	usedHeadroom  = 4
	usedElemSize  = 8

	availNoInterrupt = 1
)

// ring is a split virtqueue in guest memory. Its methods other than chain are
// not safe for concurrent use. All of them may panic with a memory fault.
type ring struct {
	size      uint32
	lastAvail uint16
	usedIdx   uint16
	desc      []byte
	avail     []byte
	used      []byte
}

// newRing finds the ring's parts in m and takes up at index base.
func newRing(m *memory, size uint32, a vringAddr, base uint16) (ring, error) {
	if size == 0 || size > maxQueueSize || size&(size-1) != 0 {
		return ring{}, fmt.Errorf("queue size %d is not a power of two up to %d", size, maxQueueSize)
	}
	r := ring{
		size:      size,
		lastAvail: base,
		desc:      m.user(a.desc, uint64(size)*descSize),
		avail:     m.user(a.avail, availHeadroom+2*uint64(size)),
		used:      m.user(a.used, usedHeadroom+usedElemSize*uint64(size)),
	}
	for _, part := range []struct {
		name  string
		mem   []byte
		align uintptr
	}{
		{"descriptor table", r.desc, 16},
		// The standard asks for 2. 4 lets us read idx atomically, and Linux aligns further.
		{"available ring", r.avail, 4},
		{"used ring", r.used, 4},
	} {
		if part.mem == nil {
			return ring{}, fmt.Errorf("the %s is outside of memory", part.name)
		}
		if uintptr(ptrOf(part.mem))%part.align != 0 {
			return ring{}, fmt.Errorf("the %s is not aligned to %d bytes", part.name, part.align)
		}
	}
	r.usedIdx = uint16(load32(r.used) >> 16)
	return r, nil
}

// pending is how many chains the driver has published and we have not taken.
func (r *ring) pending() (uint16, error) {
	n := uint16(load32(r.avail)>>16) - r.lastAvail
	if uint32(n) > r.size {
		return 0, fmt.Errorf("the available index jumped by %d in a queue of %d", n, r.size)
	}
	return n, nil
}

// next takes the head of a chain; only to be called when one is pending.
func (r *ring) next() (uint16, error) {
	slot := uint32(r.lastAvail) & (r.size - 1)
	head := *(*uint16)(unsafe.Pointer(&r.avail[availHeadroom+2*slot]))
	if uint32(head) >= r.size {
		return 0, fmt.Errorf("head %d is outside of a queue of %d", head, r.size)
	}
	r.lastAvail++
	return head, nil
}

// put returns a chain, n bytes of whose writable part were written, and reports
// whether the driver wants an interrupt for it.
func (r *ring) put(head uint16, n uint32) (interrupt bool) {
	slot := uint32(r.usedIdx) & (r.size - 1)
	elem := r.used[usedHeadroom+usedElemSize*slot:]
	binary.LittleEndian.PutUint32(elem, uint32(head))
	binary.LittleEndian.PutUint32(elem[4:], n)
	r.usedIdx++
	// The atomic store orders the element before the index, and the index
	// before the read of the driver's flags.
	atomic.StoreUint32((*uint32)(ptrOf(r.used)), uint32(r.usedIdx)<<16)
	return load32(r.avail)&availNoInterrupt == 0
}

func load32(b []byte) uint32 { return atomic.LoadUint32((*uint32)(ptrOf(b))) }

func ptrOf(b []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(b)) }

const (
	descNext     = 1
	descWrite    = 2
	descIndirect = 4
)

// descriptor is a private copy of one entry of a descriptor table.
type descriptor struct {
	addr  uint64
	len   uint32
	flags uint16
	next  uint16
}

func parseDescriptor(b []byte) descriptor {
	return descriptor{
		addr:  binary.LittleEndian.Uint64(b),
		len:   binary.LittleEndian.Uint32(b[8:]),
		flags: binary.LittleEndian.Uint16(b[12:]),
		next:  binary.LittleEndian.Uint16(b[14:]),
	}
}

// Limits of one chain. FUSE over virtio sends at most 256 pages of payload and
// four other segments.
const (
	maxSegments  = 512
	maxTransfer  = 1 << 20
	maxDirection = maxTransfer + 64<<10
)

// chain is one request: what the device may read and what it may write.
type chain struct {
	in, out       [][]byte
	inLen, outLen int

	indirect []byte // reused copy of an indirect table
}

var (
	errLoop     = errors.New("a descriptor chain is longer than its table")
	errIndirect = errors.New("an indirect descriptor table is malformed or was not negotiated")
	errOrder    = errors.New("a readable descriptor follows a writable one")
	errSegments = errors.New("a descriptor chain has too many segments or bytes")
)

// chain reads the descriptors that begin at head into c, which it resets.
func (r *ring) chain(c *chain, m *memory, head uint16, allowIndirect bool) error {
	c.in, c.out, c.inLen, c.outLen = c.in[:0], c.out[:0], 0, 0
	table, inIndirect := r.desc, false
	for i, steps := uint32(head), 0; ; steps++ {
		if steps >= len(table)/descSize {
			return errLoop
		}
		if i >= uint32(len(table)/descSize) {
			return fmt.Errorf("descriptor %d is outside of a table of %d", i, len(table)/descSize)
		}
		var entry [descSize]byte
		copy(entry[:], table[i*descSize:])
		d := parseDescriptor(entry[:])
		if d.flags&descIndirect != 0 {
			if inIndirect || !allowIndirect || d.flags&(descNext|descWrite) != 0 {
				return errIndirect
			}
			if err := c.loadIndirect(m, d); err != nil {
				return err
			}
			table, inIndirect, i, steps = c.indirect, true, 0, -1
			continue
		}
		if err := c.add(m, d); err != nil {
			return err
		}
		if d.flags&descNext == 0 {
			return nil
		}
		i = uint32(d.next)
	}
}

// loadIndirect copies the table out of the guest's reach.
func (c *chain) loadIndirect(m *memory, d descriptor) error {
	n := int(d.len)
	if n == 0 || n%descSize != 0 || n > maxQueueSize*descSize {
		return errIndirect
	}
	c.indirect = c.indirect[:0]
	for len(c.indirect) < n {
		b := m.at(d.addr+uint64(len(c.indirect)), uint64(n-len(c.indirect)))
		if b == nil {
			return fmt.Errorf("an indirect table at %#x is outside of memory", d.addr)
		}
		c.indirect = append(c.indirect, b...)
	}
	return nil
}

// add appends the descriptor's memory, joined with the segment before it where
// the two are neighbours, which spares system calls and copies.
func (c *chain) add(m *memory, d descriptor) error {
	segs, total := &c.in, &c.inLen
	if d.flags&descWrite != 0 {
		segs, total = &c.out, &c.outLen
	} else if len(c.out) > 0 {
		return errOrder
	}
	if uint64(d.len) > uint64(maxDirection-*total) {
		return errSegments
	}
	if d.addr+uint64(d.len) < d.addr {
		return fmt.Errorf("a descriptor of %d bytes at %#x overflows", d.len, d.addr)
	}
	*total += int(d.len)
	for addr, left := d.addr, uint64(d.len); left > 0; {
		b := m.at(addr, left)
		if b == nil {
			return fmt.Errorf("a descriptor of %d bytes at %#x is outside of memory", d.len, d.addr)
		}
		if !join(*segs, b) {
			if len(c.in)+len(c.out) >= maxSegments {
				return errSegments
			}
			*segs = append(*segs, b)
		}
		addr += uint64(len(b))
		left -= uint64(len(b))
	}
	return nil
}

// join extends the last segment by b if b follows it in memory.
func join(segs [][]byte, b []byte) bool {
	if len(segs) == 0 {
		return false
	}
	last := &segs[len(segs)-1]
	if unsafe.Add(ptrOf(*last), len(*last)) != ptrOf(b) {
		return false
	}
	*last = unsafe.Slice(unsafe.SliceData(*last), len(*last)+len(b))
	return true
}
