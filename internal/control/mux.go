package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

const (
	// streamWindow is what one stream may have under way in one direction, and
	// so the memory that the other end can make this one hold per stream.
	streamWindow = 1 << 20
	// maxStreams bounds the streams of one Mux.
	maxStreams = 256
	// never is a time-out for what a paused machine may take as long as it
	// likes over.
	never = 10 * 365 * 24 * time.Hour
)

// ErrTooManyStreams is returned by [Mux.Open].
var ErrTooManyStreams = errors.New("too many streams to the guest are open")

func yamuxConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	// The port can't fail by itself, and a paused machine is no failure.
	c.EnableKeepAlive = false
	c.ConnectionWriteTimeout = never
	c.StreamOpenTimeout = 0
	c.MaxStreamWindowSize = streamWindow
	c.AcceptBacklog = maxStreams
	c.StreamCloseTimeout = time.Minute // the guest never confirms a close
	c.LogOutput = nil
	c.Logger = silent{}
	return c
}

// silent is yamux's logger: what matters of its messages are errors as well,
// and a hostile guest could write a log full of the others.
type silent struct{}

func (silent) Print(...any)          {}
func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}

// Mux is the host's end of the control channel: a session with the guest on
// which streams can be opened. Its methods are safe for concurrent use.
type Mux struct {
	session *yamux.Session
	wire    *yamuxConn
	opening sync.WaitGroup
	closed  sync.Once
	wanted  chan struct{} // closed by Close, to tell it from a failure
}

// DialMux joins the control port at the other end of conn (see [NewHostPort])
// and multiplexes the session. The Mux owns conn, also on an error.
func DialMux(ctx context.Context, conn net.Conn) (*Mux, error) {
	port, err := joinPort(ctx, conn)
	if err != nil {
		return nil, err
	}
	wire := &yamuxConn{conn: port, guard: new(yamuxGuard)}
	session, err := yamux.Client(wire, yamuxConfig())
	if err != nil {
		port.Close()
		return nil, fmt.Errorf("multiplex the control port: %w", err)
	}
	return &Mux{session: session, wire: wire, wanted: make(chan struct{})}, nil
}

// Open opens a stream. It costs no round trip. The stream ends when either side
// closes it and when the Mux does; its Close ends only the writing direction
// until the guest closes too.
func (m *Mux) Open(ctx context.Context) (net.Conn, error) {
	if m.session.NumStreams() >= maxStreams {
		return nil, ErrTooManyStreams
	}
	type result struct {
		stream *yamux.Stream
		err    error
	}
	// Opening waits for a guest that doesn't read, one that is paused perhaps.
	opened := make(chan result)
	m.opening.Add(1)
	go func() {
		defer m.opening.Done()
		s, err := m.session.OpenStream()
		select {
		case opened <- result{s, err}:
		case <-ctx.Done():
			if err == nil {
				s.Close()
			}
		}
	}()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case r := <-opened:
		if r.err != nil {
			return nil, fmt.Errorf("open a stream to the guest: %w", r.err)
		}
		return r.stream, nil
	}
}

// Close ends all streams, the session and the connection. It is idempotent.
func (m *Mux) Close() error {
	m.closed.Do(func() { close(m.wanted) })
	err := m.session.Close()
	m.opening.Wait()
	return err
}

// Done is closed when the session is over, for whatever reason.
func (m *Mux) Done() <-chan struct{} { return m.session.CloseChan() }

// Err says why the session is over: nil while it is not, and after Close.
func (m *Mux) Err() error {
	select {
	case <-m.wanted:
		return nil
	default:
	}
	select {
	case <-m.session.CloseChan():
	default:
		return nil
	}
	err := m.wire.failure()
	if err == nil {
		err = errYamux // it is yamux itself that found fault
	}
	return fmt.Errorf("control channel: %w", err)
}

// Listen serves the guest's control port (see [NewGuestPort]) and returns a
// listener whose Accept yields the streams that hosts open, session after
// session. Close ends the listener and the streams, but not the port.
func Listen(port io.ReadWriter) net.Listener {
	l := &listener{
		port:    NewGuestPort(port),
		streams: make(chan net.Conn),
		closing: make(chan struct{}),
	}
	go l.serve()
	return l
}

type listener struct {
	port    *GuestPort
	streams chan net.Conn
	once    sync.Once
	closing chan struct{}
}

func (l *listener) serve() {
	for {
		conn, err := l.port.accept()
		if err != nil {
			return
		}
		l.serveSession(conn)
	}
}

func (l *listener) serveSession(conn *guestConn) {
	session, err := yamux.Server(&yamuxConn{conn: conn}, yamuxConfig())
	if err != nil {
		conn.Close()
		return
	}
	defer session.Close()
	for {
		stream, err := session.AcceptStream()
		if err != nil {
			return
		}
		select {
		case l.streams <- stream:
		case <-session.CloseChan():
			return
		case <-l.closing:
			return
		}
	}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case s := <-l.streams:
		return s, nil
	case <-l.closing:
		return nil, net.ErrClosed
	case <-l.port.done:
		return nil, fmt.Errorf("control port: %w", l.port.err)
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closing) })
	return nil
}

func (l *listener) Addr() net.Addr { return portAddr{} }
