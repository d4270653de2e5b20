package supervisor

import (
	"context"
	"sync"
	"time"

	"sbx/internal/control"
	"sbx/internal/vmm"
)

// stopGrace is what processes in the guest get between SIGTERM and SIGKILL.
const stopGrace = 5 * time.Second

// stopPatience bounds an orderly stop: a guest that is hostile, or hangs, does
// not decide when it ends. It is far beyond what a slow one needs.
const stopPatience = 90 * time.Second

// stop ends the machine and returns when it is off. While the sandbox starts it
// only gives the start up, which then ends what it has begun.
func (s *supervisor) stop(force bool) {
	from := s.setState(Stopping, nil)
	if from == Starting {
		s.cancelStart()
	}
	if !s.ran.Load() {
		return
	}
	if !force {
		s.askGuestToStop()
	}
	if err := s.machine.Kill(); err != nil {
		s.log.Error("cannot kill the machine", "error", err)
	}
}

func (s *supervisor) askGuestToStop() {
	ctx, cancel := context.WithTimeout(context.Background(), stopPatience)
	defer cancel()
	client, err := s.guest.Client(ctx)
	if err == nil {
		err = client.Shutdown(ctx, control.Shutdown{Grace: stopGrace})
	}
	if err != nil {
		s.log.Warn("the guest does not take the order to shut down", "error", err)
		return
	}
	select {
	case <-s.machine.Done():
	case <-ctx.Done():
		s.log.Warn("the guest did not power off in time; pulling the plug")
	}
}

// clockInterval bounds how long a guest is behind after the host slept.
const clockInterval = 10 * time.Second

func (s *supervisor) keepClock(ctx context.Context) {
	every(ctx, clockInterval, func() {
		ctx, cancel := context.WithTimeout(ctx, clockInterval)
		defer cancel()
		client, err := s.guest.Client(ctx)
		if err == nil {
			_, err = client.Clock(ctx, control.Clock{Time: time.Now().UnixNano()})
		}
		if err != nil && ctx.Err() == nil {
			s.log.Warn("cannot set the guest's clock", "error", err)
		}
	})
}

// watchDisk lets a guest that was halted for want of space on the host go on;
// the write that failed is tried again.
func (s *supervisor) watchDisk(ctx context.Context) {
	halted := false
	every(ctx, 5*time.Second, func() {
		state, err := s.machine.State(ctx)
		if err != nil || state != vmm.IOError {
			if halted {
				halted = false
				s.log.Info("the disk has space again")
			}
			return
		}
		if !halted {
			halted = true
			s.log.Error("no space left on the host for the sandbox's disk; the guest is halted until there is")
		}
		s.machine.Resume(ctx)
	})
}

// busyCPU is the processor use above which a sandbox counts as being at work
// though nobody is connected: a build that a detached agent runs, say.
const busyCPU = 0.25

// watchIdle stops a sandbox that nobody has used for its idle timeout.
func (s *supervisor) watchIdle(ctx context.Context) {
	timeout := s.record.IdleTimeout
	if timeout <= 0 {
		return
	}
	s.activity.Touch()
	every(ctx, min(timeout/4+time.Millisecond, 15*time.Second), func() {
		if cpu, _ := s.usage.Now(s.machine); cpu > busyCPU {
			s.activity.Touch()
		}
		if s.activity.Clients() > 0 || s.activity.Idle() < timeout || s.agentSpoke(ctx, timeout) {
			return
		}
		s.log.Info("idle, stopping", "timeout", timeout)
		s.stop(false)
	})
}

// agentSpoke says whether a detached session has printed something lately.
func (s *supervisor) agentSpoke(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	client, err := s.guest.Client(ctx)
	if err != nil {
		return false
	}
	stats, err := client.Stats(ctx)
	if err != nil {
		return false
	}
	for _, session := range stats.Sessions {
		// A time in the future is a guest's that wants to run for ever.
		if ago := time.Since(session.LastOutput); ago >= 0 && ago < within {
			return true
		}
	}
	return false
}

func every(ctx context.Context, interval time.Duration, do func()) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// activity remembers who is connected, and since when nobody is.
type activity struct {
	mu      sync.Mutex
	clients int
	last    time.Time
}

// Enter counts a client until the function it returns is called.
func (a *activity) Enter() (leave func()) {
	a.mu.Lock()
	a.clients++
	a.mu.Unlock()
	return func() {
		a.mu.Lock()
		a.clients--
		a.last = time.Now()
		a.mu.Unlock()
	}
}

func (a *activity) Clients() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clients
}

// Touch says that something went on just now.
func (a *activity) Touch() {
	a.mu.Lock()
	a.last = time.Now()
	a.mu.Unlock()
}

// Idle is the time since the last activity.
func (a *activity) Idle() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return time.Since(a.last)
}

// usageMeter turns a machine's growing processor time into a rate.
type usageMeter struct {
	mu      sync.Mutex
	at      time.Time
	cpu     time.Duration
	rate    float64
	settled bool
}

const sampleInterval = 5 * time.Second

func (s *supervisor) sampleUsage(ctx context.Context) {
	s.usage.Now(s.machine)
	every(ctx, sampleInterval, func() { s.usage.sample(s.machine, sampleInterval/2) })
}

// Now is the machine's present processor use (1: one processor) and resident
// memory in bytes.
func (u *usageMeter) Now(m vmm.Machine) (cpu float64, resident int64) {
	return u.sample(m, sampleInterval)
}

// sample renews the rate when the last one is older than age.
func (u *usageMeter) sample(m vmm.Machine, age time.Duration) (float64, int64) {
	now, err := m.Usage()
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		return 0, 0
	}
	passed := time.Since(u.at)
	if u.at.IsZero() || passed >= age || !u.settled && passed > 100*time.Millisecond {
		if !u.at.IsZero() {
			u.rate = float64(now.CPU-u.cpu) / float64(passed)
			u.settled = true
		}
		u.at, u.cpu = time.Now(), now.CPU
	}
	return u.rate, now.Resident
}
