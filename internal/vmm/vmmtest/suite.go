package vmmtest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"sbx/internal/vmm"
)

// Run tries everything that the vmm contract promises on d.
func Run(t *testing.T, d vmm.Driver, f Fixture) {
	t.Run("guest", func(t *testing.T) { testGuest(t, d, f) })
	t.Run("flushed data survives Kill", func(t *testing.T) { testFlush(t, d, f) })
	t.Run("kernel panic", func(t *testing.T) { testPanic(t, d, f) })
	t.Run("Kill", func(t *testing.T) { testKill(t, d, f) })
	t.Run("failed Start", func(t *testing.T) { testFailedStart(t, d, f) })
	t.Run("start cancelled", func(t *testing.T) { testCancel(t, d, f) })
	t.Run("killed supervisor", func(t *testing.T) { testSupervisorKilled(t, d, f) })
	t.Run("host disk full", func(t *testing.T) { testDiskFull(t, d, f) })
}

// shared is the one machine that most tests use, one after another: a boot is
// the expensive part.
type shared struct {
	m       vmm.Machine
	c       vmm.Config
	console *console
	f       Fixture
}

func testGuest(t *testing.T, d vmm.Driver, f Fixture) {
	con := newConsole()
	c := f.config(t)
	c.CPUs, c.Memory, c.Console = 2, 512<<20, con
	c.Cmdline = "vmmtest.word=seen"
	for i, format := range []string{"raw", "raw", "raw"} {
		disk := vmm.Disk{Path: filepath.Join(t.TempDir(), "disk"), Format: format, ReadOnly: i == 1}
		sparse(t, disk.Path, int64(i+1)<<20)
		c.Disks = append(c.Disks, disk)
	}
	s := shared{start(t, d, c), c, con, f}
	con.waitFor(t, banner, s.m)

	t.Run("hardware", s.testHardware)
	t.Run("control stream", s.testControl)
	t.Run("Pause and Resume", s.testPause)
	t.Run("console flood", s.testFlood)
	t.Run("memory is given back", s.testMemory)
	t.Run("shares", s.testShares)
	t.Run("power-off", s.testPowerOff)
}

func sparse(t *testing.T, path string, size int64) {
	t.Helper()
	err := os.WriteFile(path, nil, 0o600)
	if err = errors.Join(err, os.Truncate(path, size)); err != nil {
		t.Fatal(err)
	}
}

func (s shared) testHardware(t *testing.T) {
	g := connect(t, s.m)
	defer g.Close()
	if got := g.order(t, "cpus"); got != strconv.Itoa(s.c.CPUs) {
		t.Errorf("the guest has %s processors, want %d", got, s.c.CPUs)
	}
	if cmdline := g.order(t, "read /proc/cmdline"); !strings.Contains(cmdline, s.c.Cmdline) {
		t.Errorf("the kernel's command line is %s, without %s", cmdline, s.c.Cmdline)
	}
	// The kernel keeps some for itself.
	if total := g.memTotal(t); total > s.c.Memory || total < s.c.Memory*3/4 {
		t.Errorf("the guest has %d bytes of memory, want about %d", total, s.c.Memory)
	}
	for i, d := range s.c.Disks {
		sys := "/sys/block/vd" + string(rune('a'+i))
		if got, want := g.order(t, "read %s/size", sys), strconv.Quote(strconv.Itoa((i+1)<<20>>9)+"\n"); got != want {
			t.Errorf("disk %d has %s sectors, want %s", i, got, want)
		}
		if got := g.order(t, "read %s/ro", sys); (got == `"1\n"`) != d.ReadOnly {
			t.Errorf("disk %d: read-only is %s, want %v", i, got, d.ReadOnly)
		}
	}
	if got := g.order(t, "list /sys/class/net"); got != "lo" {
		t.Errorf("the guest has the network devices %q, want only lo", got)
	}
}

func (g *guest) memTotal(t *testing.T) int64 {
	t.Helper()
	text, err := strconv.Unquote(g.order(t, "read /proc/meminfo"))
	if err != nil {
		t.Fatal(err)
	}
	kib, err := strconv.ParseInt(strings.Fields(text)[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

func (s shared) testControl(t *testing.T) {
	g := connect(t, s.m)
	sent := make([]byte, 16<<20)
	src := rand.NewChaCha8([32]byte{1})
	_, _ = src.Read(sent)
	g.send(t, "echo %d", len(sent))
	written := make(chan error, 1)
	go func() {
		_, err := g.Write(sent)
		written <- err
	}()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(g.in, got); err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("bytes changed on their way through the guest")
	}
	g.answer(t)

	// One connection at a time: the second waits, and gives up with its context.
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	if second, err := s.m.Control(ctx); err == nil {
		_ = second.Close()
		t.Error("two control connections at once")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for range 3 {
		g := connect(t, s.m)
		_ = g.Close()
		_ = g.Close() // harmless
	}
}

func (s shared) testPause(t *testing.T) {
	ctx := deadline(t)
	g := connect(t, s.m)
	defer g.Close()
	s.wantState(t, vmm.Running)
	for _, step := range []struct {
		name string
		do   func(context.Context) error
		want vmm.State
	}{
		{"Resume of a running machine", s.m.Resume, vmm.Running},
		{"Pause", s.m.Pause, vmm.Paused},
		{"Pause again", s.m.Pause, vmm.Paused},
		{"Resume", s.m.Resume, vmm.Running},
		{"Pause", s.m.Pause, vmm.Paused},
	} {
		if err := step.do(ctx); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		s.wantState(t, step.want)
	}
	before := s.usage(t)
	g.send(t, "cpus")
	if after := s.usage(t); after.CPU < before.CPU || after.Resident <= 0 {
		t.Errorf("usage went from %+v to %+v", before, after)
	}
	if err := s.m.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	g.answer(t)
}

func (s shared) wantState(t *testing.T, want vmm.State) {
	t.Helper()
	if got, err := s.m.State(deadline(t)); err != nil || got != want {
		t.Errorf("state is %q, %v; want %q", got, err, want)
	}
}

func (s shared) usage(t *testing.T) vmm.Usage {
	t.Helper()
	u, err := s.m.Usage()
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func (s shared) testFlood(t *testing.T) {
	g := connect(t, s.m)
	defer g.Close()
	before := s.console.len()
	g.order(t, "console 2")
	g.order(t, "ping")
	if s.console.len() == before {
		t.Error("nothing of it reached the console")
	}
}

func (s shared) testMemory(t *testing.T) {
	const touched = 256
	g := connect(t, s.m)
	defer g.Close()
	before := s.usage(t).Resident
	g.order(t, "touch-memory %d", touched)
	// The guest's kernel reports what is free in blocks, some seconds later.
	eventually(t, "memory that the guest freed is given back to the host", func() bool {
		return s.usage(t).Resident < before+touched/4<<20
	})
}

func (s shared) testPowerOff(t *testing.T) {
	g := connect(t, s.m)
	if s.f.ServeShare != nil { // one that is in use must not stop it
		s.attachShare(t, "last")
		g.order(t, "mount last /last")
	}
	g.send(t, "poweroff")
	if err := wait(t, s.m); err != nil {
		t.Errorf("after the guest's power-off: %v", err)
	}
	wantDead(t, s.m, s.c.Dir)
}

// wantDead checks all that is promised of a machine that has ended.
func wantDead(t *testing.T, m vmm.Machine, dir string) {
	t.Helper()
	ctx := deadline(t)
	if state, err := m.State(ctx); state != vmm.Dead || !errors.Is(err, vmm.ErrDead) {
		t.Errorf("State of a dead machine: %q, %v", state, err)
	}
	_, controlErr := m.Control(ctx)
	_, usageErr := m.Usage()
	for name, err := range map[string]error{
		"Control": controlErr, "Usage": usageErr, "Pause": m.Pause(ctx), "Resume": m.Resume(ctx),
		"AttachShare": m.AttachShare(ctx, vmm.Share{Tag: "new", Socket: "/nowhere"}),
	} {
		if !errors.Is(err, vmm.ErrDead) {
			t.Errorf("%s of a dead machine: %v, want ErrDead", name, err)
		}
	}
	if err := m.Kill(); err != nil {
		t.Errorf("Kill of a dead machine: %v", err)
	}
	wantGone(t, m.PID())
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind in the machine's directory: %v, %v", left, err)
	}
}
