package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// signaled is why a context was cancelled: a signal asked sbx to end.
type signaled struct{ signal syscall.Signal }

func (s signaled) Error() string        { return fmt.Sprintf("ended by a signal (%v)", s.signal) }
func (s signaled) Is(target error) bool { return target == context.Canceled }
func (s signaled) code() int            { return 128 + int(s.signal) }

// signals receives the signals that ask sbx to end. They cancel the context,
// unless something has taken them.
type signals struct {
	mu     sync.Mutex
	cancel context.CancelCauseFunc
	taker  func(syscall.Signal)
	stop   func()
}

// catchSignals returns a context that a signal cancels, with signaled as the
// cause. The caller closes the signals.
func catchSignals() (context.Context, *signals) {
	ctx, cancel := context.WithCancelCause(context.Background())
	s := &signals{cancel: cancel}
	c := make(chan os.Signal, 16)
	done, ended := make(chan struct{}), make(chan struct{})
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		defer close(ended)
		for {
			select {
			case sig := <-c:
				s.handle(sig.(syscall.Signal))
			case <-done:
				return
			}
		}
	}()
	s.stop = func() {
		signal.Stop(c)
		close(done)
		<-ended
		cancel(nil)
	}
	return ctx, s
}

func (s *signals) close() { s.stop() }

func (s *signals) handle(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taker != nil {
		s.taker(sig)
		return
	}
	s.cancel(signaled{sig})
}

// take sends signals to taker from now on; none is lost in between.
func (s *signals) take(taker func(syscall.Signal)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taker = taker
}

// grace is how long a command has to end after a signal that ends most.
const grace = 5 * time.Second

// forwarder passes signals on to a command in a sandbox. It gives the command
// up when it doesn't end by those that should end it: the guest may ignore them.
type forwarder struct {
	to      chan os.Signal
	abandon context.CancelCauseFunc
	grace   time.Duration
	after   func(time.Duration, func()) // time.AfterFunc

	keys int // interrupts in a row
	last time.Time
	once sync.Once
}

func newForwarder(abandon context.CancelCauseFunc) *forwarder {
	return &forwarder{
		to:      make(chan os.Signal, 16),
		abandon: abandon,
		grace:   grace,
		after:   func(d time.Duration, do func()) { time.AfterFunc(d, do) },
	}
}

func (f *forwarder) handle(sig syscall.Signal) {
	select {
	case f.to <- sig:
	default: // the guest takes none
	}
	switch sig {
	case syscall.SIGTERM, syscall.SIGHUP:
		f.endSoon(sig)
	case syscall.SIGINT, syscall.SIGQUIT:
		// A command may live on interrupts (a shell does): only somebody who
		// insists wants to be rid of it.
		if time.Since(f.last) > f.grace {
			f.keys = 0
		}
		f.last = time.Now()
		if f.keys++; f.keys >= 3 {
			f.endSoon(sig)
		}
	}
}

func (f *forwarder) endSoon(sig syscall.Signal) {
	f.once.Do(func() { f.after(f.grace, func() { f.abandon(signaled{sig}) }) })
}
