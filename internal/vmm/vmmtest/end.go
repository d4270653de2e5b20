package vmmtest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sbx/internal/vmm"
)

// testFlush: what the guest flushed is on the disk after the plug was pulled.
// On the way, it sees that a disk in use is refused, and a reboot reported.
func testFlush(t *testing.T, d vmm.Driver, f Fixture) {
	c := f.config(t)
	c.Disks = []vmm.Disk{{Path: filepath.Join(t.TempDir(), "disk"), Format: "raw"}}
	sparse(t, c.Disks[0].Path, 64<<20)
	m := start(t, d, c)
	connect(t, m).order(t, "pattern write /dev/vda %d 8 7", 16<<20)

	second := f.config(t)
	second.Disks = c.Disks
	if other, err := d.Start(deadline(t), second); err == nil {
		_ = other.Kill()
		t.Error("two machines on one disk")
	}
	if err := m.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := m.Err(); err != nil {
		t.Errorf("Err after Kill: %v", err)
	}
	wantDead(t, m, c.Dir)

	m = start(t, d, c)
	g := connect(t, m)
	g.order(t, "pattern check /dev/vda %d 8 7", 16<<20)
	g.send(t, "reboot")
	if err := wait(t, m); !errors.Is(err, vmm.ErrReset) {
		t.Errorf("after a reboot: %v, want ErrReset", err)
	}
	wantDead(t, m, c.Dir)
}

// testPanic also has a share at boot, in use when the kernel panics.
func testPanic(t *testing.T, d vmm.Driver, f Fixture) {
	c := f.config(t)
	con := newConsole()
	c.Console = con
	if f.ServeShare != nil {
		c.Shares = []vmm.Share{{Tag: "boot", Socket: filepath.Join(runtimeDir(t), "fs")}}
		f.ServeShare(t, c.Shares[0].Socket)
	}
	m := start(t, d, c)
	g := connect(t, m)
	if f.ServeShare != nil {
		g.order(t, "mount boot /boot")
		if got := g.order(t, "read /boot/hello"); got != hello {
			t.Errorf("the guest read %s", got)
		}
	}
	g.send(t, "panic")
	if err := wait(t, m); !errors.Is(err, vmm.ErrReset) {
		t.Errorf("after a panic: %v, want ErrReset", err)
	}
	con.waitFor(t, "Kernel panic", m)
	wantDead(t, m, c.Dir)
}

// testKill pulls the plug in several states, from several sides at once.
func testKill(t *testing.T, d vmm.Driver, f Fixture) {
	for name, prepare := range map[string]func(*testing.T, vmm.Machine){
		"while it boots": func(*testing.T, vmm.Machine) {},
		"while paused": func(t *testing.T, m vmm.Machine) {
			if err := m.Pause(deadline(t)); err != nil {
				t.Fatal(err)
			}
		},
		"while controlled": func(t *testing.T, m vmm.Machine) {
			if _, err := m.Control(deadline(t)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.config(t)
			m := start(t, d, c)
			prepare(t, m)
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					if err := m.Kill(); err != nil {
						t.Errorf("Kill: %v", err)
					}
				})
			}
			all.Wait()
			if err := wait(t, m); err != nil {
				t.Errorf("Err after Kill: %v", err)
			}
			wantDead(t, m, c.Dir)
		})
	}
}

// testFailedStart: what cannot work is said at once, with the culprit's name.
func testFailedStart(t *testing.T, d vmm.Driver, f Fixture) {
	missing := filepath.Join(t.TempDir(), "missing")
	for name, test := range map[string]struct {
		spoil func(*vmm.Config)
		want  string
	}{
		"no kernel":       {func(c *vmm.Config) { c.Kernel = missing }, missing},
		"no initrd":       {func(c *vmm.Config) { c.Initrd = missing }, missing},
		"no disk":         {func(c *vmm.Config) { c.Disks = []vmm.Disk{{Path: missing, Format: "raw"}} }, missing},
		"not a qcow2":     {func(c *vmm.Config) { c.Disks = []vmm.Disk{{Path: f.Initrd, Format: "qcow2"}} }, "qcow2"},
		"no back end":     {func(c *vmm.Config) { c.Shares = []vmm.Share{{Tag: "x", Socket: missing}} }, missing},
		"no processors":   {func(c *vmm.Config) { c.CPUs = 0 }, "processors"},
		"no memory":       {func(c *vmm.Config) { c.Memory = 0 }, "memory"},
		"no accelerator":  {func(c *vmm.Config) { c.Accel = "" }, "accelerator"},
		"a long path":     {func(c *vmm.Config) { c.Dir += strings.Repeat("/long", 40) }, "socket path"},
		"a relative path": {func(c *vmm.Config) { c.Kernel = "vmlinux" }, "absolute"},
	} {
		t.Run(name, func(t *testing.T) {
			c := f.config(t)
			dir := c.Dir
			test.spoil(&c)
			m, err := d.Start(deadline(t), c)
			if err == nil {
				_ = m.Kill()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %q does not name %q", err, test.want)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

// testCancel ends the start's context before, during and after the start.
func testCancel(t *testing.T, d vmm.Driver, f Fixture) {
	ctx, cancel := context.WithCancel(deadline(t))
	cancel()
	c := f.config(t)
	if m, err := d.Start(ctx, c); !errors.Is(err, context.Canceled) {
		if err == nil {
			_ = m.Kill()
		}
		t.Errorf("Start with a cancelled context: %v", err)
	}

	ctx, cancel = context.WithCancel(deadline(t))
	// Somewhere within the start.
	go cancel()
	m, err := d.Start(ctx, c)
	if err == nil { // it was faster
		if err := m.Kill(); err != nil {
			t.Error(err)
		}
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("Start with a context that is cancelled: %v", err)
	}
	if left, err := os.ReadDir(c.Dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	// A started machine does not end with the context.
	ctx, cancel = context.WithCancel(deadline(t))
	m, err = d.Start(ctx, c)
	cancel()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	if state, err := m.State(deadline(t)); state != vmm.Running {
		t.Errorf("after its context's end, the machine is %q, %v", state, err)
	}
}
