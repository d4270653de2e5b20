package vhostuser

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addresses of the fake machine.
const (
	guestBase = 1 << 20
	userBase  = 0x7f00_0000_0000
	memSize   = 64 << 20

	ringBytes = 64 << 10 // what a queue's ring gets
	slotBytes = 1<<20 + 128<<10
	slotStart = 1 << 20
	slots     = 48
	slotReply = 4096 + 512<<10 // where the reply lies, when a request is small
)

// monitor is a front end with a machine's memory: what QEMU is to the server.
type monitor struct {
	t    testing.TB
	conn *net.UnixConn
	mem  []byte
	fd   int
}

func connect(t testing.TB, socket string) *monitor {
	t.Helper()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, memSize); err != nil {
		t.Fatal(err)
	}
	mem, err := unix.Mmap(fd, 0, memSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	m := &monitor{t: t, conn: conn, mem: mem, fd: fd}
	t.Cleanup(func() {
		_ = conn.Close()
		_ = unix.Close(fd)
		_ = unix.Munmap(mem)
	})
	return m
}

// boot connects a monitor and says all that comes before the queues.
func boot(t testing.TB, socket string) *monitor {
	t.Helper()
	m := connect(t, socket)
	if got := m.ask(reqGetFeatures, nil); binary.LittleEndian.Uint64(got) != supportedFeatures {
		t.Fatalf("features %x", got)
	}
	m.send(reqSetProtocolFeatures, appendU64(nil, supportedProtocolFeatures))
	m.must(reqSetFeatures, appendU64(nil, supportedFeatures))
	m.must(reqSetOwner, nil)
	m.setMemory()
	return m
}

func (m *monitor) setMemory() {
	m.t.Helper()
	m.must(reqSetMemTable, memTable(memRegion{guestBase, memSize, userBase, 0}), m.fd)
}

func memTable(regions ...memRegion) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(regions)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	for _, r := range regions {
		for _, v := range []uint64{r.guest, r.size, r.user, r.offset} {
			b = appendU64(b, v)
		}
	}
	return b
}

// write sends raw bytes and descriptors.
func (m *monitor) write(b []byte, fds ...int) {
	m.t.Helper()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := m.conn.WriteMsgUnix(b, oob, nil); err != nil {
		m.t.Fatalf("failed to send: %v", err)
	}
}

func encode(r request, flags uint32, payload []byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(r))
	b = binary.LittleEndian.AppendUint32(b, version|flags)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

func (m *monitor) send(r request, payload []byte, fds ...int) {
	m.t.Helper()
	m.write(encode(r, 0, payload), fds...)
}

// ask sends a message and returns the payload of the reply.
func (m *monitor) ask(r request, payload []byte, fds ...int) []byte {
	m.t.Helper()
	m.write(encode(r, flagNeedAck, payload), fds...)
	return m.reply(r)
}

func (m *monitor) reply(r request) []byte {
	m.t.Helper()
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(m.conn, head); err != nil {
		m.t.Fatalf("no reply to message %d: %v", r, err)
	}
	if got := request(binary.LittleEndian.Uint32(head)); got != r {
		m.t.Fatalf("reply to %d, want %d", got, r)
	}
	body := make([]byte, binary.LittleEndian.Uint32(head[8:]))
	if _, err := io.ReadFull(m.conn, body); err != nil {
		m.t.Fatal(err)
	}
	return body
}

// must asks for an acknowledgement and fails the test without it.
func (m *monitor) must(r request, payload []byte, fds ...int) {
	m.t.Helper()
	if code := binary.LittleEndian.Uint64(m.ask(r, payload, fds...)); code != 0 {
		m.t.Fatalf("message %d was refused", r)
	}
}

// refused fails the test if the message is accepted.
func (m *monitor) refused(r request, payload []byte, fds ...int) {
	m.t.Helper()
	if code := binary.LittleEndian.Uint64(m.ask(r, payload, fds...)); code == 0 {
		m.t.Fatalf("message %d with %x was accepted", r, payload)
	}
}

// driver is the guest's side of one queue.
type driver struct {
	m                *monitor
	index            int
	size             uint32
	kick, call, err  int
	indirect         bool
	desc, avail, use []byte

	mu       sync.Mutex
	availIdx uint16
	usedIdx  uint16
	free     chan uint16 // slot numbers
	done     [slots]chan int
	ended    chan struct{}
}

// newDriver starts a queue, whose completions are collected until the test ends.
func newDriver(m *monitor, index int, size uint32) *driver {
	m.t.Helper()
	d := &driver{m: m, index: index, size: size, indirect: true, free: make(chan uint16, slots), ended: make(chan struct{})}
	for _, fd := range []*int{&d.kick, &d.call, &d.err} {
		n, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			m.t.Fatal(err)
		}
		*fd = n
	}
	ring := m.mem[index*ringBytes:]
	d.desc, d.avail, d.use = ring, ring[16<<10:], ring[32<<10:]
	for i := range min(slots, size/2) {
		d.free <- uint16(i)
		d.done[i] = make(chan int, 1)
	}
	d.configure()
	d.start(0)
	go d.collect()
	m.t.Cleanup(func() {
		signal(d.err) // ends collect
		<-d.ended
		for _, fd := range []int{d.kick, d.call, d.err} {
			_ = unix.Close(fd)
		}
	})
	return d
}

func (d *driver) address() []byte {
	at := uint64(userBase + d.index*ringBytes)
	b := binary.LittleEndian.AppendUint32(nil, uint32(d.index))
	b = binary.LittleEndian.AppendUint32(b, 0)
	for _, v := range []uint64{at, at + 32<<10, at + 16<<10, 0} {
		b = appendU64(b, v)
	}
	return b
}

func (d *driver) state(n uint32) []byte { return vringState{uint32(d.index), n}.append(nil) }

func (d *driver) configure() {
	d.m.t.Helper()
	d.m.must(reqSetVringNum, d.state(d.size))
	d.m.must(reqSetVringAddr, d.address())
	d.m.must(reqSetVringCall, appendU64(nil, uint64(d.index)), d.call)
	d.m.must(reqSetVringErr, appendU64(nil, uint64(d.index)), d.err)
}

// start makes the queue go on at base.
func (d *driver) start(base uint16) {
	d.m.t.Helper()
	d.m.must(reqSetVringBase, d.state(uint32(base)))
	d.m.must(reqSetVringKick, appendU64(nil, uint64(d.index)), d.kick)
	d.m.must(reqSetVringEnable, d.state(1))
}

// stop returns the index where the queue stopped.
func (d *driver) stop() uint16 {
	d.m.t.Helper()
	b := d.m.ask(reqGetVringBase, d.state(0))
	return uint16(binary.LittleEndian.Uint32(b[4:]))
}

// waitFD waits for an edge on one of the eventfds and returns which.
func waitFD(fds ...int) int {
	var set []unix.PollFd
	for _, fd := range fds {
		set = append(set, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for {
		if n, err := unix.Poll(set, -1); err != nil || n == 0 {
			continue
		}
		for _, p := range set {
			if p.Revents != 0 {
				var b [8]byte
				_, _ = unix.Read(int(p.Fd), b[:])
				return int(p.Fd)
			}
		}
	}
}

// collect hands completions out, until the queue is broken or the test ends.
func (d *driver) collect() {
	defer close(d.ended)
	for waitFD(d.err, d.call) == d.call {
		d.mu.Lock()
		for d.usedIdx != uint16(load32(d.use)>>16) {
			elem := d.use[4+8*(uint32(d.usedIdx)&(d.size-1)):]
			head := binary.LittleEndian.Uint32(elem)
			d.usedIdx++
			d.done[head/2] <- int(binary.LittleEndian.Uint32(elem[4:]))
		}
		d.mu.Unlock()
	}
}

// reset forgets all, as the driver of a guest that boots again does.
func (d *driver) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.availIdx, d.usedIdx = 0, 0
	clear(d.avail[:4])
	clear(d.use[:4])
}

func slotOffset(slot uint16) int { return slotStart + int(slot)*slotBytes }

func putDesc(b []byte, d descriptor) {
	binary.LittleEndian.PutUint64(b, d.addr)
	binary.LittleEndian.PutUint32(b[8:], d.len)
	binary.LittleEndian.PutUint16(b[12:], d.flags)
	binary.LittleEndian.PutUint16(b[14:], d.next)
}

// submit puts a request into the ring and returns where its reply will be.
func (d *driver) submit(slot uint16, in []byte, outLen int) (reply []byte) {
	base := slotOffset(slot)
	inAt, outAt := base+4096, base+slotReply
	if len(in) > slotReply-4096 {
		outAt = inAt + (len(in)+4095)&^4095
	}
	copy(d.m.mem[inAt:], in)
	head := 2 * slot
	descs := []descriptor{
		{guestBase + uint64(inAt), uint32(len(in)), descNext, head + 1},
		{guestBase + uint64(outAt), uint32(outLen), descWrite, 0},
	}
	if outLen == 0 {
		descs = descs[:1]
		descs[0].flags = 0
	}
	table := d.desc[int(head)*descSize:]
	if d.indirect {
		putDesc(table, descriptor{guestBase + uint64(base), uint32(len(descs) * descSize), descIndirect, 0})
		table = d.m.mem[base:]
		descs[0].next = 1
	}
	for i, x := range descs {
		putDesc(table[i*descSize:], x)
	}
	d.publish(head)
	return d.m.mem[outAt : outAt+outLen]
}

// publish makes a chain available, and kicks.
func (d *driver) publish(head uint16) {
	d.mu.Lock()
	binary.LittleEndian.PutUint16(d.avail[4+2*(uint32(d.availIdx)&(d.size-1)):], head)
	d.availIdx++
	atomic.StoreUint32((*uint32)(unsafe.Pointer(&d.avail[0])), uint32(d.availIdx)<<16)
	d.mu.Unlock()
	signal(d.kick)
}

// call does a request and returns a copy of the reply.
func (d *driver) call1(in []byte, outLen int) []byte {
	slot := <-d.free
	reply := d.submit(slot, in, outLen)
	n := <-d.done[slot]
	got := append([]byte(nil), reply[:n]...)
	d.free <- slot
	return got
}

func openFDs(t testing.TB) string {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(len(list))
}
