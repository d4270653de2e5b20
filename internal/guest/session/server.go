//go:build linux

package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"golang.org/x/crypto/ssh"

	"sbx/internal/control"
	"sbx/internal/guest/reap"
)

// Settings are what sessions get unless they ask for something else.
type Settings struct {
	User    string   // account name
	Workdir string   // empty: the user's home
	Env     []string // "K=V", after the built-in defaults
	// Cgroup is a cgroup2 directory that programs start in; empty: that of
	// this process.
	Cgroup string
}

// Server runs sessions. The exported fields are set before the first call and
// not changed.
type Server struct {
	Reaper *reap.Reaper
	Log    *slog.Logger
	// SSH returns the configuration of a new connection.
	SSH func() *ssh.ServerConfig
	// Order executes a global request. An error refuses it and travels to the
	// host as text, else reply does as JSON unless it is nil. ctx ends with the
	// connection; after, if not nil, is called once the reply is on its way. An
	// unknown name is answered with ErrUnknownOrder.
	Order func(ctx context.Context, name string, payload []byte) (reply any, after func(), err error)

	settings  atomic.Pointer[Settings]
	terminals terminals
}

// ErrUnknownOrder is what Order returns for a name that it does not know.
var ErrUnknownOrder = errors.New("unknown request")

// Configure sets the settings; sessions are refused before the first call.
func (s *Server) Configure(settings Settings) { s.settings.Store(&settings) }

// Serve accepts connections until l fails, and returns when all of them have
// ended. Cancelling ctx ends the connections; close l too.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		wg.Go(func() {
			defer conn.Close()
			defer s.recovered("connection")
			s.connection(ctx, conn)
		})
	}
}

// recovered is deferred at the top of goroutines: whatever a program in the
// guest may provoke, PID 1 goes on.
func (s *Server) recovered(what string) {
	if r := recover(); r != nil {
		s.Log.Error("panic", "in", what, "value", r, "stack", string(debug.Stack()))
	}
}

func (s *Server) connection(ctx context.Context, raw net.Conn) {
	conn, channels, requests, err := control.NewServerConn(raw, s.SSH())
	if err != nil {
		if !errors.Is(err, io.EOF) {
			s.Log.Debug("ssh handshake", "error", err)
		}
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer s.recovered("order")
		s.orders(ctx, requests)
	})
	wg.Go(func() {
		conn.Wait()
		cancel()
	})
	for c := range channels {
		wg.Go(func() {
			defer s.recovered("channel")
			s.channel(ctx, conn, c)
		})
	}
}

// orders answers the global requests of a connection one after another.
func (s *Server) orders(ctx context.Context, requests <-chan *ssh.Request) {
	// The order's own goroutine may block (a device that is missing), while
	// the requests must be read on for the connection's end to be seen.
	queue := make(chan *ssh.Request, 16)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer s.recovered("order")
		for r := range queue {
			s.order(ctx, r)
		}
	})
	for r := range requests {
		select {
		case queue <- r:
		default:
			control.Reply(r, nil, errors.New("too many orders at once"))
		}
	}
	close(queue)
	wg.Wait()
}

func (s *Server) order(ctx context.Context, r *ssh.Request) {
	if s.Order == nil {
		r.Reply(false, nil)
		return
	}
	reply, after, err := s.Order(ctx, r.Type, r.Payload)
	if errors.Is(err, ErrUnknownOrder) {
		r.Reply(false, nil) // also the answer to keepalive@openssh.com
	} else {
		control.Reply(r, reply, err)
	}
	if after != nil {
		after()
	}
}

func (s *Server) channel(ctx context.Context, conn ssh.Conn, c ssh.NewChannel) {
	switch c.ChannelType() {
	case "session":
		ch, requests, err := c.Accept()
		if err != nil {
			return
		}
		newSession(s, conn.User(), ch).serve(requests)
	case "direct-tcpip":
		forwardTCP(ctx, c)
	case "direct-streamlocal@openssh.com":
		forwardUnix(ctx, c)
	default:
		c.Reject(ssh.UnknownChannelType, "no channels of type "+c.ChannelType())
	}
}
