package vhostuser

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// region is a mapped piece of guest memory.
type region struct {
	memRegion
	fd      int
	mapping []byte // starts at a page boundary of the file
	data    []byte // the region proper, within mapping
}

// memory is the guest's memory as one SET_MEM_TABLE described it. It is
// immutable and reference-counted: the connection holds one reference, every
// request in flight another, and the last one unmaps it.
type memory struct {
	regions []region
	refs    atomic.Int64
	revoked atomic.Bool

	mu       sync.Mutex // orders revoke and unmap
	unmapped bool
}

// mapMemory maps the regions; fds[i] backs regions[i]. It takes ownership of
// the descriptors, whether or not it succeeds.
func mapMemory(regions []memRegion, fds []int) (*memory, error) {
	m := &memory{}
	m.refs.Store(1)
	for i, fd := range fds {
		m.regions = append(m.regions, region{fd: fd})
		if i < len(regions) {
			m.regions[i].memRegion = regions[i]
		}
	}
	if len(fds) != len(regions) {
		m.release()
		return nil, fmt.Errorf("%d memory regions came with %d descriptors", len(regions), len(fds))
	}
	for i := range m.regions {
		if err := m.regions[i].mmap(); err != nil {
			m.release()
			return nil, fmt.Errorf("failed to map memory region %d: %w", i, err)
		}
	}
	return m, nil
}

// mmap maps the region after checking that its file holds all of it: touching
// what a file doesn't hold raises SIGBUS. The front end can still truncate the
// file later, so whoever touches guest memory turns faults into panics.
func (r *region) mmap() error {
	if r.size == 0 || r.guest+r.size < r.guest || r.user+r.size < r.user || r.offset+r.size < r.offset ||
		r.offset+r.size > math.MaxInt64 {
		return errors.New("its size or an address is out of range")
	}
	var st unix.Stat_t
	if err := unix.Fstat(r.fd, &st); err != nil {
		return fmt.Errorf("failed to stat its file: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return errors.New("its descriptor is not a file")
	}
	if uint64(st.Size) < r.offset+r.size {
		return fmt.Errorf("its file has %d bytes, but it ends at %d", st.Size, r.offset+r.size)
	}
	delta := r.offset % uint64(os.Getpagesize())
	mapping, err := unix.Mmap(r.fd, int64(r.offset-delta), int(r.size+delta),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_NORESERVE)
	if err != nil {
		return err
	}
	r.mapping = mapping
	r.data = mapping[delta:]
	return nil
}

// remap maps the same memory a second time.
func (m *memory) remap() (*memory, error) {
	var regions []memRegion
	var fds []int
	for _, r := range m.regions {
		fd, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			closeFDs(fds)
			return nil, fmt.Errorf("failed to duplicate a memory descriptor: %w", err)
		}
		fds = append(fds, fd)
		regions = append(regions, r.memRegion)
	}
	return mapMemory(regions, fds)
}

// revoke puts empty private pages in the place of guest memory, so that
// requests which still hold slices of it can do no harm to the guest.
func (m *memory) revoke() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.unmapped || m.revoked.Swap(true) {
		return nil
	}
	var failed error
	for _, r := range m.regions {
		if replace(r.mapping) == nil {
			continue
		}
		failed = errors.Join(failed, conceal(r.mapping))
	}
	return failed
}

// replace puts empty private pages in the place of a mapping.
func replace(mapping []byte) error {
	_, err := unix.MmapPtr(-1, 0, ptrOf(mapping), uintptr(len(mapping)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_FIXED|unix.MAP_NORESERVE)
	return err
}

// conceal is what is left when there are no pages to put there: whoever touches
// the mapping faults, which ends that request and breaks its queue.
func conceal(mapping []byte) error {
	if err := unix.Mprotect(mapping, unix.PROT_NONE); err != nil {
		return fmt.Errorf("failed to take %d bytes of guest memory away: %w", len(mapping), err)
	}
	return nil
}

func (m *memory) gone() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unmapped
}

func (m *memory) acquire() { m.refs.Add(1) }

func (m *memory) release() {
	if m.refs.Add(-1) != 0 {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unmapped = true
	for _, r := range m.regions {
		if r.mapping != nil {
			_ = unix.Munmap(r.mapping)
		}
		_ = unix.Close(r.fd)
	}
}

// at returns guest memory from addr on: n bytes, or fewer where the region
// ends, or nil where there is no memory.
func (m *memory) at(addr, n uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.guest; addr >= r.guest && off < r.size {
			return r.data[off : off+min(n, r.size-off) : off+min(n, r.size-off)]
		}
	}
	return nil
}

// user returns n bytes at an address of the front end, or nil unless they lie
// within one region.
func (m *memory) user(addr, n uint64) []byte {
	for i := range m.regions {
		r := &m.regions[i]
		if off := addr - r.user; addr >= r.user && off < r.size {
			if n > r.size-off {
				return nil
			}
			return r.data[off : off+n : off+n]
		}
	}
	return nil
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
