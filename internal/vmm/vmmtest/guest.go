package vmmtest

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sbx/internal/vmm"
)

// banner is what the test guest prints when it waits for orders.
const banner = "sbx-init: ready"

// deadline is a context that ends a little before the test binary's own
// timeout, so that what hangs is named instead of dumped.
func deadline(t *testing.T) context.Context {
	t.Helper()
	at, ok := t.Deadline()
	if !ok {
		return t.Context()
	}
	ctx, cancel := context.WithDeadline(t.Context(), at.Add(-5*time.Second))
	t.Cleanup(cancel)
	return ctx
}

// runtimeDir is a short private directory, as unix sockets need it.
func runtimeDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "vmm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// config is a small machine, which a test then changes.
func (f Fixture) config(t *testing.T) vmm.Config {
	t.Helper()
	return vmm.Config{
		Name: t.Name(), Dir: runtimeDir(t),
		Kernel: f.Kernel, Initrd: f.Initrd,
		CPUs: 1, Memory: 256 << 20, Accel: f.Accel,
		Log: testLog{t},
	}
}

// testLog shows what the monitor says among the test's own output.
type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Logf("monitor: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// start starts a machine that is gone at the test's end.
func start(t *testing.T, d vmm.Driver, c vmm.Config) vmm.Machine {
	t.Helper()
	m, err := d.Start(deadline(t), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Kill(); err != nil {
			t.Errorf("Kill: %v", err)
		}
	})
	return m
}

// wait waits for the machine's end and returns its reason.
func wait(t *testing.T, m vmm.Machine) error {
	t.Helper()
	select {
	case <-m.Done():
		return m.Err()
	case <-deadline(t).Done():
		t.Fatal("the machine does not end")
		return nil
	}
}

// guest is a control connection to the test guest.
type guest struct {
	net.Conn
	in *bufio.Reader
}

// connect joins the control port and waits until the guest answers there.
func connect(t *testing.T, m vmm.Machine) *guest {
	t.Helper()
	ctx := deadline(t)
	conn, err := m.Control(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at)
	}
	g := &guest{conn, bufio.NewReader(conn)}
	g.order(t, "ping")
	return g
}

// order has the guest do something and returns what it answers.
func (g *guest) order(t *testing.T, format string, args ...any) string {
	t.Helper()
	g.send(t, format, args...)
	return g.answer(t)
}

func (g *guest) send(t *testing.T, format string, args ...any) {
	t.Helper()
	if _, err := fmt.Fprintf(g, format+"\n", args...); err != nil {
		t.Fatalf("order %s: %v", fmt.Sprintf(format, args...), err)
	}
}

func (g *guest) answer(t *testing.T) string {
	t.Helper()
	line, err := g.in.ReadString('\n')
	if err != nil {
		t.Fatalf("read the guest's answer: %v", err)
	}
	answer, ok := strings.CutPrefix(strings.TrimSpace(line), "ok")
	if !ok {
		t.Fatalf("the guest answered %s", line)
	}
	return strings.TrimSpace(answer)
}

// console collects output and tells when something has passed by.
type console struct {
	mu   sync.Mutex
	more chan struct{} // closed and replaced by every write
	text []byte
}

func newConsole() *console { return &console{more: make(chan struct{})} }

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	close(c.more)
	c.more = make(chan struct{})
	return len(p), nil
}

func (c *console) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.text)
}

func (c *console) waitFor(t *testing.T, want string, m vmm.Machine) {
	t.Helper()
	ctx := deadline(t)
	for {
		c.mu.Lock()
		more, found := c.more, bytes.Contains(c.text, []byte(want))
		c.mu.Unlock()
		if found {
			return
		}
		select {
		case <-more:
		case <-m.Done():
			t.Fatalf("the machine ended (%v) before it printed %q", m.Err(), want)
		case <-ctx.Done():
			t.Fatalf("%q does not appear on the console", want)
		}
	}
}

// eventually asks again and again until ok; for what no event announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	ctx := deadline(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("it never happens: %s", what)
		}
	}
}
