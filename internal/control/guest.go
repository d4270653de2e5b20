package control

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// GuestPort is the guest's end of the control port. Its owner opens the port
// once and never closes it while the guest lives: closing it discards what the
// host already sent.
//
// A host may leave in the middle of anything and come back, or another may
// come. Each begins a session, which Accept returns; the one before then ends
// with io.EOF, and so does a session whose host took its leave.
type GuestPort struct {
	port     portWriter
	sessions chan *guestConn
	done     chan struct{} // closed when the port can't be read any more
	err      error         // why, valid after done
}

// NewGuestPort serves the port, which a goroutine reads until it fails: close
// the port to end it. While no host is connected a virtio port reads as
// end-of-file; GuestPort hides that and looks again after a few milliseconds.
func NewGuestPort(port io.ReadWriter) *GuestPort {
	g := &GuestPort{
		port:     portWriter{w: port},
		sessions: make(chan *guestConn, 1),
		done:     make(chan struct{}),
	}
	go g.serve(newFrameReader(&patientReader{r: port}))
	return g
}

// Accept waits for a host and returns the stream of its session. The error is
// that of the port, for good.
func (g *GuestPort) Accept() (net.Conn, error) {
	c, err := g.accept()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (g *GuestPort) accept() (*guestConn, error) {
	select {
	case c := <-g.sessions:
		return c, nil
	case <-g.done:
		return nil, g.err
	}
}

func (g *GuestPort) serve(in *frameReader) {
	var current *guestConn
	g.err = g.receive(in, &current)
	if current != nil {
		current.end()
	}
	close(g.done)
}

// receive takes frames from the port for as long as it can be read.
func (g *GuestPort) receive(in *frameReader, current **guestConn) error {
	for {
		h, err := in.scan()
		if err != nil {
			return err
		}
		c := *current
		ours := c != nil && c.out.session == h.session
		switch {
		case h.kind == kindHello && ours:
			err = writeControl(&g.port, kindAck, h.session) // it was repeated
		case h.kind == kindHello:
			if c != nil {
				c.end()
			}
			*current, err = g.begin(h.session)
		case h.kind == kindData && ours:
			err = c.deliver(in)
		case h.kind == kindBye && ours:
			c.end()
		default:
			err = in.skip()
		}
		if err != nil {
			return err
		}
	}
}

// begin acknowledges a session and starts it, in this order: what is written on
// it must not come before the ACK.
func (g *GuestPort) begin(session uint64) (*guestConn, error) {
	c := newGuestConn(&g.port, session)
	if err := writeControl(&g.port, kindAck, session); err != nil {
		return c, err
	}
	// Only the newest session is worth accepting.
	select {
	case <-g.sessions:
	default:
	}
	g.sessions <- c
	return c, nil
}

// portWriter keeps frames of several writers apart.
type portWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *portWriter) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.w.Write(b)
}

// patientReader hides the end-of-file of a port without a host.
type patientReader struct{ r io.Reader }

const (
	firstPause = 2 * time.Millisecond
	// longestPause is what a host that joins waits at worst. Hosts are away
	// only around a snapshot, so it is not worth making it longer.
	longestPause = 10 * time.Millisecond
)

func (p *patientReader) Read(b []byte) (int, error) {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		n, err := p.r.Read(b)
		if n > 0 {
			return n, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		time.Sleep(pause) // nothing in the kernel wakes a reader when a host connects
	}
}

// inboxSize is how much of a session waits in memory for its reader.
const inboxSize = 256 << 10

// guestConn is the guest's end of a session.
type guestConn struct {
	mu    sync.Mutex
	cond  sync.Cond // something below changed
	inbox []byte    // a ring of inboxSize bytes
	first int       // its oldest byte
	count int       // how many it holds
	ended bool      // by the host
	gone  bool      // closed here

	writing sync.Mutex // guards out
	out     *frameWriter
}

func newGuestConn(port *portWriter, session uint64) *guestConn {
	c := &guestConn{inbox: make([]byte, inboxSize), out: newFrameWriter(port, session)}
	c.cond.L = &c.mu
	return c
}

// deliver moves the present frame's payload into the inbox, waiting for room.
func (c *guestConn) deliver(in *frameReader) error {
	for in.left > 0 {
		p, err := in.payload()
		if err != nil {
			return err
		}
		c.put(p)
	}
	return nil
}

func (c *guestConn) put(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(p) > 0 && !c.gone && !c.ended {
		if c.count == len(c.inbox) {
			c.cond.Wait()
			continue
		}
		at := (c.first + c.count) % len(c.inbox)
		n := copy(c.inbox[at:min(len(c.inbox), at+len(c.inbox)-c.count)], p)
		p = p[n:]
		c.count += n
		c.cond.Signal()
	}
}

// Read returns what the host sent; after the session's end what is left of it,
// then io.EOF.
func (c *guestConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.count == 0 || c.gone {
		switch {
		case c.gone:
			return 0, net.ErrClosed
		case c.ended:
			return 0, io.EOF
		case len(b) == 0:
			return 0, nil
		}
		c.cond.Wait()
	}
	n := copy(b, c.inbox[c.first:min(len(c.inbox), c.first+c.count)])
	c.first = (c.first + n) % len(c.inbox)
	c.count -= n
	c.cond.Signal()
	return n, nil
}

// Write sends b to the host. While no host is connected it blocks in the port.
func (c *guestConn) Write(b []byte) (int, error) { return c.write(b, false) }

func (c *guestConn) write(b []byte, more bool) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	if c.over() {
		return 0, net.ErrClosed
	}
	return c.out.write(b, more)
}

func (c *guestConn) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended || c.gone
}

// end is the session's end as the host wants it.
func (c *guestConn) end() {
	c.mu.Lock()
	c.ended = true
	c.cond.Broadcast()
	c.mu.Unlock()
}

// Close ends the session from this side: the host reads end-of-file.
func (c *guestConn) Close() error {
	c.mu.Lock()
	first := !c.gone
	tell := first && !c.ended
	c.gone = true
	c.cond.Broadcast()
	c.mu.Unlock()
	if !tell {
		return nil
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.out.control(kindBye)
}

type portAddr struct{}

func (portAddr) Network() string { return "virtio-serial" }
func (portAddr) String() string  { return "control port" }

func (c *guestConn) LocalAddr() net.Addr              { return portAddr{} }
func (c *guestConn) RemoteAddr() net.Addr             { return portAddr{} }
func (c *guestConn) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (c *guestConn) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (c *guestConn) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
