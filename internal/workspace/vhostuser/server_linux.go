package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxFrontends is more than one, because a monitor that is dying may still hold
// its connection when its successor calls.
const maxFrontends = 4

// Server is a vhost-user-fs back end on a unix socket.
type Server struct {
	listener    *net.UnixListener
	newHandler  func() Handler
	log         *slog.Logger
	stopTimeout time.Duration

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	slots     chan struct{}
	frontends sync.WaitGroup
}

// Listen makes the socket, in place of one that a dead server left there.
// Connections are accepted from now on, and served from Serve on. newHandler is
// called for each front end.
func Listen(socket string, newHandler func() Handler, log *slog.Logger) (*Server, error) {
	if err := removeStale(socket); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("failed to listen for the virtual machine: %w", err)
	}
	if err := os.Chmod(socket, 0o600); err != nil {
		_ = l.Close()
		return nil, fmt.Errorf("failed to protect the socket: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Server{
		listener:    l,
		newHandler:  newHandler,
		log:         log,
		stopTimeout: StopTimeout,
		ctx:         ctx,
		cancel:      cancel,
		slots:       make(chan struct{}, maxFrontends),
	}, nil
}

// removeStale removes a socket that nobody listens on.
func removeStale(socket string) error {
	st, err := os.Lstat(socket)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to look at the socket: %w", err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", socket)
	}
	if c, err := net.Dial("unix", socket); err == nil {
		_ = c.Close()
		return fmt.Errorf("socket %s is in use by another server", socket)
	}
	if err := os.Remove(socket); err != nil {
		return fmt.Errorf("failed to remove a stale socket: %w", err)
	}
	return nil
}

// Serve accepts front ends until ctx ends or Close is called, and returns nil
// then. It does not wait for the front ends; Close does.
func (s *Server) Serve(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.shutDown)
	defer stop()
	for {
		select {
		case s.slots <- struct{}{}:
		case <-s.ctx.Done():
			return nil
		}
		conn, err := s.listener.AcceptUnix()
		if err != nil {
			<-s.slots
			if s.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("failed to accept a front end: %w", err)
		}
		if !s.start(conn) {
			<-s.slots
			_ = conn.Close()
		}
	}
}

// start serves conn on a goroutine of its own, which frees the slot at its end.
func (s *Server) start(conn *net.UnixConn) bool {
	if err := checkPeer(conn); err != nil {
		s.log.Warn("connection refused", "error", err)
		return false
	}
	log := slog.New(newRation(s.log.Handler()))
	f := newFrontend(conn, s.newHandler(), log, s.stopTimeout)
	s.frontends.Add(1)
	go func() {
		defer s.frontends.Done()
		defer func() { <-s.slots }()
		log.Debug("front end connected")
		if err := f.serve(s.ctx); err != nil {
			log.Warn("front end failed", "error", err)
			return
		}
		log.Debug("front end disconnected")
	}()
	return true
}

// checkPeer lets in only processes of the same user.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(cerr, err); err != nil {
		return fmt.Errorf("failed to identify the peer: %w", err)
	}
	if int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("peer %d is user %d, not %d", cred.Pid, cred.Uid, os.Geteuid())
	}
	return nil
}

func (s *Server) shutDown() {
	s.cancel()
	_ = s.listener.Close()
}

// Close disconnects the front ends, removes the socket, and returns when every
// worker has ended and all guest memory is unmapped: a request that is stuck on
// the host (a dead network file system) holds it up. It may be called twice.
func (s *Server) Close() error {
	s.shutDown()
	s.frontends.Wait()
	return nil
}
