package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"sbx/internal/control"
)

func TestSignalsCancelUntilTaken(t *testing.T) {
	ctx, s := catchSignals()
	defer s.close()
	got := make(chan syscall.Signal, 1)
	s.take(func(sig syscall.Signal) { got <- sig })
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	if sig := <-got; sig != syscall.SIGTERM || ctx.Err() != nil {
		t.Errorf("the taker got %v, context %v", sig, ctx.Err())
	}
	s.take(nil)
	syscall.Kill(os.Getpid(), syscall.SIGHUP)
	<-ctx.Done()
	if code, err := exitCode(ctx, fmt.Errorf("x: %w", ctx.Err())); code != 129 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

func TestForwarderGivesUp(t *testing.T) {
	for _, test := range []struct {
		name string
		sent []syscall.Signal
		want bool
	}{
		{"one interrupt", []syscall.Signal{syscall.SIGINT}, false},
		{"two interrupts", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, false},
		{"three interrupts", []syscall.Signal{syscall.SIGINT, syscall.SIGINT, syscall.SIGINT}, true},
		{"TERM", []syscall.Signal{syscall.SIGTERM}, true},
		{"HUP", []syscall.Signal{syscall.SIGHUP, syscall.SIGHUP}, true},
		{"USR1", []syscall.Signal{syscall.SIGUSR1, syscall.SIGUSR1, syscall.SIGUSR1}, false},
	} {
		given := make(chan error, 1)
		f := &forwarder{to: make(chan os.Signal, 1), grace: time.Hour, abandon: func(err error) { given <- err }}
		f.after = func(_ time.Duration, do func()) { do() }
		for _, sig := range test.sent {
			f.handle(sig) // never waits, though nobody takes any
		}
		if len(given) > 0 != test.want {
			t.Errorf("%s: gave up: %v", test.name, len(given) > 0)
		}
		if len(f.to) != 1 {
			t.Errorf("%s: not forwarded", test.name)
		}
	}
}

func TestExitCodes(t *testing.T) {
	interrupted, cancel := context.WithCancelCause(context.Background())
	cancel(signaled{syscall.SIGINT})
	for name, test := range map[string]struct {
		ctx  context.Context
		err  error
		code int
		says bool
	}{
		"success":                    {err: nil},
		"failure":                    {err: errors.New("x"), code: 1, says: true},
		"usage":                      {err: usageErrorf("x"), code: 2, says: true},
		"not begun":                  {err: notBegun(errors.New("x")), code: 125, says: true},
		"the command's":              {err: &exitError{code: 7}, code: 7},
		"interrupted":                {ctx: interrupted, err: context.Canceled, code: 130},
		"interrupted, not begun":     {ctx: interrupted, err: notBegun(context.Canceled), code: 130},
		"interrupted, fails thereby": {ctx: interrupted, err: errors.New("qemu-img: signal: killed"), code: 130, says: true},
		"the command was too":        {ctx: interrupted, err: &exitError{code: 3}, code: 3},
		"given up":                   {err: signaled{syscall.SIGTERM}, code: 143},
	} {
		if test.ctx == nil {
			test.ctx = context.Background()
		}
		if code, err := exitCode(test.ctx, test.err); code != test.code || (err != nil) != test.says {
			t.Errorf("%s: code %d, %v", name, code, err)
		}
	}
}

func TestEndOfACommand(t *testing.T) {
	a := testApp(t)
	for name, test := range map[string]struct {
		exit control.Exit
		err  error
		code int
		says string
	}{
		"code":           {exit: control.Exit{Code: 3}, code: 3},
		"signal":         {exit: control.Exit{Signal: "TERM"}, code: 143},
		"not begun":      {err: fmt.Errorf("%w %w", control.ErrNotBegun, control.ErrRefused), code: 125, says: "refused"},
		"stopped":        {err: control.ErrLost, code: 137, says: "was stopped"},
		"reader is gone": {err: fmt.Errorf("write: %w", syscall.EPIPE), code: 1},
		"disk is full":   {err: fmt.Errorf("write: %w", syscall.ENOSPC), code: 1, says: "no space"},
	} {
		code, err := exitCode(context.Background(), a.exitStatus("web", test.exit, test.err))
		if code != test.code || !says(err, test.says) {
			t.Errorf("%s: code %d, %v", name, code, err)
		}
	}
}
