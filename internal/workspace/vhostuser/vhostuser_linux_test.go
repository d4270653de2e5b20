package vhostuser

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// echo is a Handler that answers with what it was sent, once it may.
type echo struct {
	gate   chan struct{} // nil: no waiting
	came   chan struct{} // nil, or gets one value a request
	closed chan struct{}
}

func newEcho() *echo { return &echo{closed: make(chan struct{})} }

func (e *echo) Handle(in, out [][]byte) int {
	if e.came != nil {
		e.came <- struct{}{}
	}
	if e.gate != nil {
		<-e.gate
	}
	b := make([]byte, length(in))
	gather(b, in)
	return scatter(out, b)
}

func (e *echo) Reject(in, out [][]byte) int { return scatter(out, []byte("rejected")) }
func (e *echo) Close()                      { close(e.closed) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newServer serves h, once, with a bound for stuck requests.
func newServer(t testing.TB, stopTimeout time.Duration, h func() Handler) (*Server, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "fs")
	srv, err := Listen(socket, h, quiet())
	if err != nil {
		t.Fatal(err)
	}
	srv.stopTimeout = stopTimeout
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background()) }()
	t.Cleanup(func() {
		_ = srv.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return srv, socket
}

func one(h Handler) func() Handler { return func() Handler { return h } }

func TestEcho(t *testing.T) {
	for _, indirect := range []bool{false, true} {
		t.Run(fmt.Sprintf("indirect=%v", indirect), func(t *testing.T) {
			_, socket := newServer(t, StopTimeout, one(newEcho()))
			d := newDriver(boot(t, socket), 1, 64)
			d.indirect = indirect
			for i := range 1000 { // several times around the ring
				msg := fmt.Appendf(nil, "request %d", i)
				if got := d.call1(msg, 64); !bytes.Equal(got, msg) {
					t.Fatalf("got %q, want %q", got, msg)
				}
			}
		})
	}
}

func TestRequestsRunInParallel(t *testing.T) {
	e := newEcho()
	e.came, e.gate = make(chan struct{}), make(chan struct{})
	_, socket := newServer(t, StopTimeout, one(e))
	d := newDriver(boot(t, socket), 1, 64)
	var wg sync.WaitGroup
	for i := range 2 * maxWorkers {
		wg.Go(func() {
			if got := d.call1([]byte{byte(i)}, 1); len(got) != 1 || got[0] != byte(i) {
				t.Errorf("request %d got %v", i, got)
			}
		})
	}
	for range maxWorkers { // all of them are inside of Handle at once
		<-e.came
	}
	close(e.gate)
	for range maxWorkers {
		<-e.came
	}
	wg.Wait()
}

func TestSeveralQueues(t *testing.T) {
	_, socket := newServer(t, StopTimeout, one(newEcho()))
	m := boot(t, socket)
	if n := binary.LittleEndian.Uint64(m.ask(reqGetQueueNum, nil)); n != maxQueues {
		t.Errorf("%d queues, want %d", n, maxQueues)
	}
	// They share slots of memory, so they take turns.
	for index := range 4 {
		d := newDriver(m, index, 64)
		if got := d.call1([]byte("hello"), 16); string(got) != "hello" {
			t.Errorf("queue %d answered %q", index, got)
		}
	}
}

func TestStopWaitsForRequestsAndGoesOn(t *testing.T) {
	e := newEcho()
	e.came, e.gate = make(chan struct{}, 1), make(chan struct{})
	_, socket := newServer(t, StopTimeout, one(e))
	m := boot(t, socket)
	d := newDriver(m, 1, 64)
	slot := <-d.free
	reply := d.submit(slot, []byte("slow"), 16)
	<-e.came
	m.write(encode(reqGetVringBase, 0, d.state(0)))
	close(e.gate)
	if base := binary.LittleEndian.Uint32(m.reply(reqGetVringBase)[4:]); base != 1 {
		t.Fatalf("stopped at %d, want 1", base)
	}
	if n := <-d.done[slot]; string(reply[:n]) != "slow" {
		t.Fatalf("got %q", reply[:n])
	}
	d.free <- slot

	// What is published while it is stopped waits.
	slot = <-d.free
	reply = d.submit(slot, []byte("later"), 16)
	if base := d.stop(); base != 1 {
		t.Fatalf("a stopped queue is at %d, want 1", base)
	}
	d.start(1)
	if n := <-d.done[slot]; string(reply[:n]) != "later" {
		t.Fatalf("got %q", reply[:n])
	}
}

func TestStuckRequest(t *testing.T) {
	for _, tc := range []struct {
		name string
		base uint16
		want string
	}{
		{"the machine goes on", 1, "rejected"},
		{"the machine was reset", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEcho()
			e.came, e.gate = make(chan struct{}, 8), make(chan struct{}, 8)
			_, socket := newServer(t, time.Millisecond, one(e))
			m := boot(t, socket)
			d := newDriver(m, 1, 64)
			slot := <-d.free
			reply := d.submit(slot, []byte("stuck on the host"), 64)
			<-e.came
			m.setMemory() // what is in flight keeps the old mapping
			if base := d.stop(); base != 1 {
				t.Fatalf("stopped at %d, want 1", base)
			}
			if tc.base == 0 {
				d.reset()
			}
			d.start(tc.base)
			e.gate <- struct{}{} // it comes back, too late
			if tc.want != "" {
				if n := <-d.done[slot]; string(reply[:n]) != tc.want {
					t.Fatalf("got %q, want %q", reply[:n], tc.want)
				}
			}
			e.gate <- struct{}{}
			other := <-d.free
			fresh := d.submit(other, []byte("fresh"), 64)
			if n := <-d.done[other]; string(fresh[:n]) != "fresh" {
				t.Fatalf("got %q", fresh[:n])
			}
			if bytes.Contains(reply, []byte("stuck")) {
				t.Fatal("a request wrote to the guest after its queue was stopped")
			}
		})
	}
}

func TestMemoryMovesWhileRunning(t *testing.T) {
	_, socket := newServer(t, StopTimeout, one(newEcho()))
	m := boot(t, socket)
	d := newDriver(m, 1, 64)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if got := d.call1([]byte("on the move"), 64); string(got) != "on the move" {
				t.Errorf("got %q", got)
			}
		}
	})
	for range 200 {
		m.setMemory()
	}
	close(stop)
	wg.Wait()
}

func TestDisconnectInMidRequest(t *testing.T) {
	before := openFDs(t)
	e := newEcho()
	e.came, e.gate = make(chan struct{}, 1), make(chan struct{})
	srv, socket := newServer(t, time.Millisecond, one(e))
	m := boot(t, socket)
	d := newDriver(m, 1, 64)
	d.submit(<-d.free, []byte("last words"), 64)
	<-e.came
	_ = m.conn.Close()
	select {
	case <-e.closed:
		t.Fatal("the handler was closed with a request inside")
	default:
	}
	close(e.gate)
	<-e.closed
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	// One mapping is the monitor's own.
	if n := strings.Count(string(maps), "memfd:guest"); n > 1 {
		t.Errorf("%d mappings of guest memory are left, want the monitor's only", n)
	}
	// The monitor's memory and the queue's three descriptors are still open.
	var n, want int
	fmt.Sscan(openFDs(t), &n)
	fmt.Sscan(before, &want)
	if n > want+4 {
		t.Errorf("%d descriptors are open, want %d", n, want+4)
	}
}

func TestNextFrontEnd(t *testing.T) {
	_, socket := newServer(t, StopTimeout, func() Handler { return newEcho() })
	for i := range 3 * maxFrontends {
		m := boot(t, socket)
		d := newDriver(m, 1, 64)
		if got := d.call1([]byte("hi"), 8); string(got) != "hi" {
			t.Fatalf("front end %d got %q", i, got)
		}
		m.write([]byte("garbage that is no message at all"))
	}
}

func TestKickStaysNonBlocking(t *testing.T) {
	_, socket := newServer(t, StopTimeout, one(newEcho()))
	d := newDriver(boot(t, socket), 1, 64)
	d.call1([]byte("x"), 1)
	for _, fd := range []int{d.kick, d.call, d.err} {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Errorf("descriptor %d has flags %x: %v", fd, flags, err)
		}
	}
}

func TestHostileRing(t *testing.T) {
	const hostileSlot = slotStart // guest memory for tables
	for _, tc := range []struct {
		name  string
		write func(d *driver)
	}{
		{"available index jumps", func(d *driver) {
			d.availIdx += 500
			d.publish(0)
		}},
		{"head outside of the table", func(d *driver) { d.publish(64) }},
		{"cycle", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase, 1, descNext, 0})
			d.publish(0)
		}},
		{"next outside of the table", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase, 1, descNext, 64})
			d.publish(0)
		}},
		{"address outside of memory", func(d *driver) {
			putDesc(d.desc, descriptor{0, 1, 0, 0})
			d.publish(0)
		}},
		{"length outside of memory", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + memSize - 1, 2, 0, 0})
			d.publish(0)
		}},
		{"address overflows", func(d *driver) {
			putDesc(d.desc, descriptor{^uint64(0), 2, descWrite, 0})
			d.publish(0)
		}},
		{"too long", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase, maxDirection + 1, descWrite, 0})
			d.publish(0)
		}},
		{"readable after writable", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase, 1, descNext | descWrite, 1})
			putDesc(d.desc[descSize:], descriptor{guestBase, 1, 0, 0})
			d.publish(0)
		}},
		{"empty indirect table", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + hostileSlot, 0, descIndirect, 0})
			d.publish(0)
		}},
		{"odd indirect table", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + hostileSlot, 17, descIndirect, 0})
			d.publish(0)
		}},
		{"huge indirect table", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + hostileSlot, 0xfffffff0, descIndirect, 0})
			d.publish(0)
		}},
		{"indirect table outside of memory", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + memSize - 16, 32, descIndirect, 0})
			d.publish(0)
		}},
		{"nested indirect table", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + hostileSlot, 16, descIndirect, 0})
			putDesc(d.m.mem[hostileSlot:], descriptor{guestBase + hostileSlot, 16, descIndirect, 0})
			d.publish(0)
		}},
		{"cycle in an indirect table", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + hostileSlot, 32, descIndirect, 0})
			putDesc(d.m.mem[hostileSlot:], descriptor{guestBase, 0, descNext, 1})
			putDesc(d.m.mem[hostileSlot+16:], descriptor{guestBase, 0, descNext, 0})
			d.publish(0)
		}},
		{"too many segments", func(d *driver) {
			putDesc(d.desc, descriptor{guestBase + hostileSlot, 1024 * 16, descIndirect, 0})
			for i := range 1024 {
				putDesc(d.m.mem[hostileSlot+16*i:], descriptor{guestBase + uint64(i*8), 1, descNext, uint16(i + 1)})
			}
			d.publish(0)
		}},
		{"memory is taken away", func(d *driver) {
			if err := unix.Ftruncate(d.m.fd, 0); err != nil {
				d.m.t.Fatal(err)
			}
			signal(d.kick)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, socket := newServer(t, StopTimeout, func() Handler { return newEcho() })
			m := boot(t, socket)
			d := newDriver(m, 1, 64)
			d.call1([]byte("fine"), 8)
			tc.write(d)
			<-d.ended // the error descriptor was signalled
			d.stop()  // and the front end is answered

			next := boot(t, socket)
			if got := newDriver(next, 1, 64).call1([]byte("next"), 8); string(got) != "next" {
				t.Fatalf("the next front end got %q", got)
			}
		})
	}
}

func TestBadMessages(t *testing.T) {
	_, socket := newServer(t, StopTimeout, func() Handler { return newEcho() })
	m := boot(t, socket)
	state := func(i, n uint32) []byte { return vringState{i, n}.append(nil) }
	addr := func(desc, used, avail uint64) []byte {
		b := make([]byte, 8)
		b[0] = 2
		for _, v := range []uint64{desc, used, avail, 0} {
			b = appendU64(b, v)
		}
		return b
	}
	page := memRegion{guestBase, 4096, userBase, 0}
	for _, tc := range []struct {
		name    string
		req     request
		payload []byte
		fds     []int
	}{
		{"unknown message", 99, nil, nil},
		{"log base", 6, make([]byte, 16), nil},
		{"feature not offered", reqSetFeatures, appendU64(nil, 1<<29), nil},
		{"protocol feature not offered", reqSetProtocolFeatures, appendU64(nil, 1<<protocolReplyAck), nil},
		{"short features", reqSetFeatures, make([]byte, 4), nil},
		{"queue size not a power of two", reqSetVringNum, state(1, 100), nil},
		{"queue size zero", reqSetVringNum, state(1, 0), nil},
		{"queue size too big", reqSetVringNum, state(1, 2048), nil},
		{"no such queue", reqSetVringNum, state(maxQueues, 64), nil},
		{"base out of range", reqSetVringBase, state(1, 1<<16), nil},
		{"kick without descriptor", reqSetVringKick, appendU64(nil, 1), nil},
		{"kick by polling", reqSetVringKick, appendU64(nil, 1|vringNoFD), nil},
		{"kick with two descriptors", reqSetVringKick, appendU64(nil, 1), []int{m.fd, m.fd}},
		{"regions without descriptors", reqSetMemTable, memTable(page), nil},
		{"descriptors without regions", reqSetMemTable, memTable(), []int{m.fd}},
		{"too many regions", reqSetMemTable, []byte{9, 0, 0, 0, 0, 0, 0, 0}, nil},
		{"empty region", reqSetMemTable, memTable(memRegion{0, 0, 0, 0}), []int{m.fd}},
		{"region overflows", reqSetMemTable, memTable(memRegion{^uint64(0), 2, 0, 0}), []int{m.fd}},
		{"region beyond its file", reqSetMemTable, memTable(memRegion{0, memSize + 1, 0, 0}), []int{m.fd}},
		{"region in a directory", reqSetMemTable, memTable(page), []int{dirFD(t)}},
		{"ring address of wrong size", reqSetVringAddr, make([]byte, 39), nil},
	} {
		t.Run(tc.name, func(t *testing.T) { m.refused(tc.req, tc.payload, tc.fds...) })
	}
	kick, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(kick)
	for _, tc := range []struct {
		name              string
		desc, used, avail uint64
	}{
		{"outside of memory", userBase, userBase + memSize, userBase},
		{"ends outside of memory", userBase + memSize - 16, userBase, userBase},
		{"unaligned", userBase + 8, userBase, userBase},
		{"unaligned used ring", userBase, userBase + 2, userBase},
	} {
		t.Run("ring "+tc.name, func(t *testing.T) {
			m.must(reqSetVringEnable, state(2, 0))
			m.must(reqSetVringNum, state(2, 64))
			m.must(reqSetVringAddr, addr(tc.desc, tc.used, tc.avail))
			m.must(reqSetVringKick, appendU64(nil, 2), kick)
			m.refused(reqSetVringEnable, state(2, 1))
		})
	}
	if got := newDriver(m, 1, 64).call1([]byte("still here"), 16); string(got) != "still here" {
		t.Fatalf("got %q", got)
	}
}

func dirFD(t *testing.T) int {
	t.Helper()
	fd, err := unix.Open("/", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(file, nil, quiet()); err == nil {
		t.Error("a file was taken for a socket")
	}
	socket := filepath.Join(dir, "fs")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket, nil, quiet()); err == nil {
		t.Error("a live socket was taken over")
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	srv, err := Listen(socket, nil, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socket); err == nil {
		t.Error("the socket is left after Close")
	}
}
