package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"

	"sbx/internal/control"
	"sbx/internal/vmm"
)

// guestLink keeps the control channel of one machine: a multiplexed session,
// which is begun anew when it breaks, and on it the supervisor's own SSH client.
type guestLink struct {
	machine vmm.Machine
	log     *slog.Logger

	mu     sync.Mutex // held while connecting, so that one does it
	mux    *control.Mux
	client *control.Client
}

func newGuestLink(m vmm.Machine, log *slog.Logger) *guestLink {
	return &guestLink{machine: m, log: log}
}

// Open starts a byte stream to the guest's SSH server. While the guest boots
// it waits, bounded by ctx and by the machine's life.
func (l *guestLink) Open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := l.whileAlive(ctx)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream(ctx)
}

// Client returns the supervisor's own SSH client.
func (l *guestLink) Client(ctx context.Context) (*control.Client, error) {
	ctx, cancel := l.whileAlive(ctx)
	defer cancel()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.client != nil && open(l.client) && open(l.mux) {
		return l.client, nil
	}
	conn, err := l.stream(ctx)
	if err != nil {
		return nil, err
	}
	l.client, err = control.NewClient(ctx, conn, "root")
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("the guest does not answer on its control channel: %w", err)
	}
	return l.client, nil
}

// Close ends all streams.
func (l *guestLink) Close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mux != nil {
		l.mux.Close()
	}
}

// whileAlive cancels what waits for a machine that is dead.
func (l *guestLink) whileAlive(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := make(chan struct{})
	go func() {
		select {
		case <-l.machine.Done():
			cancel(vmm.ErrDead)
		case <-stop:
		}
	}()
	return ctx, func() { close(stop); cancel(nil) }
}

// stream needs mu.
func (l *guestLink) stream(ctx context.Context) (net.Conn, error) {
	if l.mux != nil && open(l.mux) {
		return l.mux.Open(ctx)
	}
	if l.mux != nil {
		l.log.Warn("control channel lost, joining again", "error", l.mux.Err())
		l.mux.Close()
		l.mux, l.client = nil, nil
	}
	port, err := l.machine.Control(ctx)
	if err != nil {
		return nil, err
	}
	mux, err := control.DialMux(ctx, port)
	if err != nil {
		port.Close()
		return nil, err
	}
	l.mux = mux
	return mux.Open(ctx)
}

// open says whether a connection is still there. A request that is given up
// ends its client (see control.Client), while the multiplexed session lives on.
func open(conn interface{ Done() <-chan struct{} }) bool {
	select {
	case <-conn.Done():
		return false
	default:
		return true
	}
}
