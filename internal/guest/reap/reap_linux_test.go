package reap

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// run makes the test process adopt orphans, as PID 1 does.
func run(t *testing.T) *Reaper {
	t.Helper()
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	r := New()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return r
}

func start(t *testing.T, r *Reaper, script string) *Process {
	t.Helper()
	p, err := r.Start("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{
		Files: []*os.File{nil, nil, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestStatusesAreNotLostAmongOrphans(t *testing.T) {
	r := run(t)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 40 {
				want := (worker*40 + i) % 250
				// Each leaves two orphans behind, which end at any time.
				p := start(t, r, fmt.Sprintf("(exit 7 &) ; (: &) ; exit %d", want))
				status, err := p.Wait()
				if err != nil || status.ExitStatus() != want {
					t.Errorf("status %v, %v; want %d", status, err, want)
				}
			}
		})
	}
	wg.Wait()
}

func TestFailedStartLeavesNothing(t *testing.T) {
	r := run(t)
	for range 50 {
		if _, err := r.Start("/nonexistent", []string{"x"}, &os.ProcAttr{}); !os.IsNotExist(err) {
			t.Fatalf("start of a missing program: %v", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.children) != 0 || len(r.early) != 0 || r.starting != 0 {
		t.Errorf("left behind: %v %v %d", r.children, r.early, r.starting)
	}
}

func TestSignals(t *testing.T) {
	r := run(t)
	p := start(t, r, "kill -STOP $$; exit 3")
	if err := p.SignalGroup(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	status, err := p.Wait()
	if err != nil || status.Signal() != syscall.SIGKILL {
		t.Errorf("status %v, %v", status, err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Errorf("signal after the end: %v", err)
	}
}
