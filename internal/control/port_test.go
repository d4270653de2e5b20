package control

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A bus is a virtio-serial port: the guest's end stays open while hosts come
// and go, and what a host that left did not read may be lost or come later.
type bus struct {
	mu      sync.Mutex
	cond    sync.Cond
	toGuest []byte
	toHost  []byte
	host    *busHost // connected now
	closed  bool
	lose    func(n int) int // how many of n bytes under way a leaving host loses
}

const busBuffer = 64 << 10

func newBus() *bus {
	b := &bus{}
	b.cond.L = &b.mu
	return b
}

// Read is the guest's: end-of-file while there is no host.
func (b *bus) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		switch {
		case b.closed:
			return 0, os.ErrClosed
		case len(b.toGuest) > 0:
			n := copy(p[:min(len(p), 4096)], b.toGuest)
			b.toGuest = b.toGuest[n:]
			b.cond.Broadcast()
			return n, nil
		case b.host == nil:
			return 0, io.EOF
		}
		b.cond.Wait()
	}
}

// Write is the guest's: it blocks while there is no host to read.
func (b *bus) Write(p []byte) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(p) > 0 {
		if b.closed {
			return n, os.ErrClosed
		}
		room := busBuffer - len(b.toHost)
		if b.host == nil || room == 0 {
			b.cond.Wait()
			continue
		}
		k := min(room, len(p))
		b.toHost = append(b.toHost, p[:k]...)
		p, n = p[k:], n+k
		b.cond.Broadcast()
	}
	return n, nil
}

func (b *bus) close() {
	b.mu.Lock()
	b.closed = true
	b.cond.Broadcast()
	b.mu.Unlock()
}

// dial connects a host.
func (b *bus) dial() net.Conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	h := &busHost{bus: b}
	b.host = h
	b.cond.Broadcast()
	return h
}

type busHost struct {
	bus    *bus
	closed bool
	dead   bool // deadline passed
}

func (h *busHost) over() error {
	if h.closed || h.bus.host != h {
		return net.ErrClosed
	}
	if h.dead {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (h *busHost) Read(p []byte) (int, error) {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	for len(h.bus.toHost) == 0 {
		if err := h.over(); err != nil {
			return 0, err
		}
		h.bus.cond.Wait()
	}
	if err := h.over(); err != nil {
		return 0, err
	}
	n := copy(p, h.bus.toHost)
	h.bus.toHost = h.bus.toHost[n:]
	h.bus.cond.Broadcast()
	return n, nil
}

func (h *busHost) Write(p []byte) (n int, err error) {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	for len(p) > 0 {
		if err := h.over(); err != nil {
			return n, err
		}
		room := busBuffer - len(h.bus.toGuest)
		if room == 0 {
			h.bus.cond.Wait()
			continue
		}
		k := min(room, len(p))
		h.bus.toGuest = append(h.bus.toGuest, p[:k]...)
		p, n = p[k:], n+k
		h.bus.cond.Broadcast()
	}
	return n, nil
}

func (h *busHost) Close() error {
	h.bus.mu.Lock()
	defer h.bus.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	if h.bus.host == h {
		h.bus.host = nil
		if h.bus.lose != nil {
			h.bus.toHost = h.bus.toHost[h.bus.lose(len(h.bus.toHost)):]
		}
	}
	h.bus.cond.Broadcast()
	return nil
}

func (h *busHost) LocalAddr() net.Addr  { return portAddr{} }
func (h *busHost) RemoteAddr() net.Addr { return portAddr{} }
func (h *busHost) SetDeadline(t time.Time) error {
	h.bus.mu.Lock()
	h.dead = !t.IsZero() && t.Before(time.Now())
	h.bus.cond.Broadcast()
	h.bus.mu.Unlock()
	return nil
}
func (h *busHost) SetReadDeadline(t time.Time) error  { return nil }
func (h *busHost) SetWriteDeadline(t time.Time) error { return nil }

func socketpair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socketpair")
		conns[i], err = net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conns[i].Close() })
	}
	return conns[0], conns[1]
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// echo serves every stream of l with its own bytes.
func echo(l net.Listener) {
	for {
		s, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(s, s)
			s.Close()
		}()
	}
}

func TestHostJoinsBeforeGuestBoots(t *testing.T) {
	a, b := socketpair(t)
	joined := make(chan *Mux)
	go func() {
		m, err := DialMux(testContext(t), a)
		if err != nil {
			t.Error(err)
		}
		joined <- m
	}()
	go echo(Listen(b))
	m := <-joined
	defer m.Close()
	s, err := m.Open(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, s, []byte("hello"))
}

func roundTrip(t *testing.T, s net.Conn, msg []byte) {
	t.Helper()
	go s.Write(msg)
	got := make([]byte, len(msg))
	if _, err := io.ReadFull(s, got); err != nil || !bytes.Equal(got, msg) {
		t.Fatalf("echo of %d bytes failed: %v", len(msg), err)
	}
}

func TestJoinGivesUpWithItsContext(t *testing.T) {
	a, _ := socketpair(t)
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	if _, err := NewHostPort(ctx, a); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
	if _, err := a.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
}

// Hosts leave in mid-transfer, with bytes lost on the way, and come back.
func TestReconnectInMidTransfer(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 30
	}
	random := rand.New(rand.NewPCG(1, 2))
	b := newBus()
	b.lose = func(n int) int { return random.IntN(n + 1) }
	defer b.close()
	l := Listen(b)
	go echo(l)
	junk := make([]byte, 300<<10)
	for i := range junk {
		junk[i] = byte(random.Uint32())
	}
	for i := range rounds {
		m, err := DialMux(testContext(t), b.dial())
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		s, err := m.Open(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s, junk[:1+random.IntN(len(junk))])
		cut := random.IntN(len(junk))
		done := make(chan struct{})
		go func() { defer close(done); s.Write(junk) }()
		io.CopyN(io.Discard, s, int64(cut))
		if i%2 == 0 {
			m.wire.conn.(*hostConn).Conn.Close() // as a killed process does
		}
		m.Close()
		<-done
	}
}

func TestEveryStreamEndsWithTheSession(t *testing.T) {
	b := newBus()
	defer b.close()
	l := Listen(b)
	ended := make(chan error, 2)
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, err := io.Copy(s, s); ended <- err }()
		}
	}()
	for _, polite := range []bool{true, false} {
		m, err := DialMux(testContext(t), b.dial())
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Open(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, s, []byte("x")) // so the guest has it
		if polite {
			m.Close()
		} else {
			next, err := DialMux(testContext(t), b.dial())
			if err != nil {
				t.Fatal(err)
			}
			defer next.Close()
		}
		<-ended
	}
}

func TestMuxReportsTheGuestsEnd(t *testing.T) {
	a, b := socketpair(t)
	go echo(Listen(b))
	m, err := DialMux(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	if m.Err() != nil {
		t.Errorf("error before the end: %v", m.Err())
	}
	b.Close()
	<-m.Done()
	if m.Err() == nil {
		t.Error("no error after the guest's end")
	}
	m.Close()
	if m.Err() != nil {
		t.Errorf("error after Close: %v", m.Err())
	}
	if _, err := m.Open(testContext(t)); err == nil {
		t.Error("a stream was opened after Close")
	}
}
