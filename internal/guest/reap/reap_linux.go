package reap

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxEarly bounds the statuses that are kept while a start is under way.
const maxEarly = 1 << 16

// ErrLost is the Wait error of a child whose status was taken by somebody else.
var ErrLost = errors.New("exit status was lost")

// A Reaper starts and collects processes. Its methods are safe for concurrent
// use. The zero value is not usable; call [New].
type Reaper struct {
	mu       sync.Mutex
	children map[int]*Process
	// early holds statuses of unknown processes for as long as any start is
	// under way: a child can end before its Process is entered here.
	early    map[int]syscall.WaitStatus
	starting int
	changed  chan struct{} // closed and replaced after each collection
}

// New returns a Reaper; it does nothing until Run.
func New() *Reaper {
	return &Reaper{
		children: map[int]*Process{},
		early:    map[int]syscall.WaitStatus{},
		changed:  make(chan struct{}),
	}
}

// Process is a child that a Reaper started.
type Process struct {
	reaper *Reaper
	os     *os.Process
	pid    int
	done   chan struct{} // closed after status and err are set
	status syscall.WaitStatus
	err    error
}

// Run collects ended children until ctx is done.
func (r *Reaper) Run(ctx context.Context) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGCHLD)
	defer signal.Stop(signals)
	for {
		r.collect()
		select {
		case <-signals:
		case <-ctx.Done():
			return
		}
	}
}

// collect takes the statuses of all children that have ended.
func (r *Reaper) collect() {
	for {
		// The lock covers wait4 so that Signal never meets a process ID that
		// is free already. WNOHANG keeps it short.
		r.mu.Lock()
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if pid > 0 {
			r.dispatch(pid, status)
			close(r.changed)
			r.changed = make(chan struct{})
		}
		r.mu.Unlock()
		if pid <= 0 && err != syscall.EINTR {
			return
		}
	}
}

func (r *Reaper) dispatch(pid int, status syscall.WaitStatus) {
	if p, ok := r.children[pid]; ok {
		p.finish(status, nil)
		return
	}
	if r.starting > 0 && len(r.early) < maxEarly {
		r.early[pid] = status
	}
}

// Start is like os.StartProcess.
func (r *Reaper) Start(name string, argv []string, attr *os.ProcAttr) (*Process, error) {
	r.mu.Lock()
	r.starting++
	r.mu.Unlock()
	// Not under the lock: the start ends with the child's execve, which a file
	// system that does not answer can hold up for ever.
	started, err := os.StartProcess(name, argv, attr)

	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() {
		if r.starting--; r.starting == 0 {
			clear(r.early)
		}
	}()
	if err != nil {
		return nil, err
	}
	p := &Process{reaper: r, os: started, pid: started.Pid, done: make(chan struct{})}
	r.children[p.pid] = p
	if !exists(p.pid) {
		// It has ended and was collected before it was entered. Had the early
		// status belonged to an earlier process of the same ID, ours would
		// still exist.
		if status, ok := r.early[p.pid]; ok {
			p.finish(status, nil)
		} else {
			p.finish(0, ErrLost)
		}
	}
	return p, nil
}

// WaitEmpty waits until this process has no children at all, adopted ones
// included; for PID 1 that means that nothing else runs.
func (r *Reaper) WaitEmpty(ctx context.Context) error {
	for {
		r.mu.Lock()
		changed := r.changed
		err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
		r.mu.Unlock()
		if err == unix.ECHILD {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// exists reports whether pid is a child that has not been collected.
func exists(pid int) bool {
	err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT|unix.WNOHANG, nil)
	return err != unix.ECHILD
}

// finish is called with the Reaper's lock held.
func (p *Process) finish(status syscall.WaitStatus, err error) {
	delete(p.reaper.children, p.pid)
	delete(p.reaper.early, p.pid)
	p.status, p.err = status, err
	p.os.Release()
	close(p.done)
}

// PID is the child's process ID. It may belong to another process once Done is
// closed.
func (p *Process) PID() int { return p.pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Wait returns the status of the process once it has ended. It may be called
// any number of times.
func (p *Process) Wait() (syscall.WaitStatus, error) {
	<-p.done
	return p.status, p.err
}

// Signal sends s to the process, SignalGroup to the process group that it
// leads. Both do nothing once it has ended.
func (p *Process) Signal(s syscall.Signal) error { return p.signal(p.pid, s) }

// SignalGroup is described at Signal.
func (p *Process) SignalGroup(s syscall.Signal) error { return p.signal(-p.pid, s) }

func (p *Process) signal(target int, s syscall.Signal) error {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	select {
	case <-p.done:
		return nil
	default:
		return syscall.Kill(target, s)
	}
}
