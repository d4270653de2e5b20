package supervisor

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"sbx/internal/control"
	"sbx/internal/vmm"
)

// guestLink keeps the control channel of one machine: a multiplexed session,
// which is begun anew when it breaks, and on it the supervisor's own SSH client.
//
// The guest decides how long anything here takes, for ever included; so every
// wait ends with its caller's context, that for another caller too.
type guestLink struct {
	machine vmm.Machine
	log     *slog.Logger

	turn   chan struct{} // holds one token; whoever took it may use the fields
	mux    *control.Mux
	client *control.Client
}

func newGuestLink(m vmm.Machine, log *slog.Logger) *guestLink {
	l := &guestLink{machine: m, log: log, turn: make(chan struct{}, 1)}
	l.turn <- struct{}{}
	return l
}

// take waits for the turn; the caller gives it back.
func (l *guestLink) take(ctx context.Context) error {
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the guest does not answer on its control channel: %w", context.Cause(ctx))
	}
}

func (l *guestLink) giveBack() { l.turn <- struct{}{} }

// Open starts a byte stream to the guest's SSH server. While the guest boots
// it waits, bounded by ctx and by the machine's life.
func (l *guestLink) Open(ctx context.Context) (net.Conn, error) {
	ctx, cancel := l.whileAlive(ctx)
	defer cancel()
	mux, err := l.session(ctx)
	if err != nil {
		return nil, err
	}
	return mux.Open(ctx)
}

func (l *guestLink) session(ctx context.Context) (*control.Mux, error) {
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer l.giveBack()
	return l.join(ctx)
}

// Client returns the supervisor's own SSH client.
func (l *guestLink) Client(ctx context.Context) (*control.Client, error) {
	ctx, cancel := l.whileAlive(ctx)
	defer cancel()
	if err := l.take(ctx); err != nil {
		return nil, err
	}
	defer l.giveBack()
	if l.client != nil && open(l.client) && open(l.mux) {
		return l.client, nil
	}
	mux, err := l.join(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := mux.Open(ctx)
	if err != nil {
		return nil, err
	}
	if l.client, err = control.NewClient(ctx, conn, "root"); err != nil {
		return nil, fmt.Errorf("the guest does not answer on its control channel: %w", err)
	}
	return l.client, nil
}

// Close ends all streams. The machine is dead by then, so nobody waits long.
func (l *guestLink) Close() {
	<-l.turn
	defer l.giveBack()
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

// join returns the session, after it has begun a new one if need be. The
// caller has the turn.
func (l *guestLink) join(ctx context.Context) (*control.Mux, error) {
	if l.mux != nil && open(l.mux) {
		return l.mux, nil
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
		return nil, err
	}
	l.mux = mux
	return mux, nil
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
