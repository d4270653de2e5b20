package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sbx/internal/vmm"
)

// startStub starts a machine whose guest has nothing to run: the monitor is
// there all the same.
func startStub(t *testing.T) *machine {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-" + qemuArch("amd64")); err != nil {
		t.Skip("qemu is not installed")
	}
	inst, err := Find(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "qemu-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	initrd := filepath.Join(dir, "initrd")
	if err := os.WriteFile(initrd, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kernel := os.Getenv("SBX_TEST_KERNEL")
	if kernel == "" {
		t.Skip("SBX_TEST_KERNEL names no kernel to start")
	}
	m, err := New(inst).Start(t.Context(), vmm.Config{
		Name: "stub", Dir: dir, Kernel: kernel, Initrd: initrd, CPUs: 1, Memory: minMemory, Accel: vmm.TCG,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Kill() })
	return m.(*machine)
}

// TestChildHasOnlyWhatItNeeds: no descriptor, variable, terminal or privilege
// that we did not mean to give.
func TestChildHasOnlyWhatItNeeds(t *testing.T) {
	// As if whoever started us had left a secret open.
	secret, err := os.CreateTemp(t.TempDir(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer secret.Close()
	if _, err := unix.FcntlInt(secret.Fd(), unix.F_SETFD, 0); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SBX_TEST_SECRET", "x")

	m := startStub(t)
	proc := fmt.Sprintf("/proc/%d/", m.PID())
	fds, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if target, _ := os.Readlink(proc + "fd/" + fd.Name()); target == secret.Name() {
			t.Errorf("descriptor %s is %s", fd.Name(), target)
		}
	}
	if env, err := os.ReadFile(proc + "environ"); err != nil || string(env) != "LC_ALL=C\x00" {
		t.Errorf("environment is %q, %v", env, err)
	}
	if cwd, err := os.Readlink(proc + "cwd"); err != nil || cwd != m.dir {
		t.Errorf("it works in %s, %v", cwd, err)
	}
	if sid, err := unix.Getsid(m.PID()); err != nil || sid != m.PID() {
		t.Errorf("its session is %d, %v", sid, err)
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("no %q in its status", want)
		}
	}
}

// TestHungMonitor: one that answers nothing costs a call its context, and no more.
func TestHungMonitor(t *testing.T) {
	m := startStub(t)
	if err := syscall.Kill(m.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := m.State(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("State: %v", err)
	}
	if _, err := m.Usage(); err != nil {
		t.Errorf("Usage: %v", err)
	}
	if err := m.Kill(); err != nil {
		t.Errorf("Kill: %v", err)
	}
	if err := m.Err(); err != nil {
		t.Errorf("Err: %v", err)
	}
}

func TestSomebodyElseKillsIt(t *testing.T) {
	m := startStub(t)
	if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-m.Done()
	if err := m.Kill(); err != nil {
		t.Errorf("Kill: %v", err)
	}
	if err := m.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err: %v", err)
	}
}

func TestSpawnSaysWhatIsMissing(t *testing.T) {
	d := New(&Installation{Binary: "/nowhere/qemu"})
	c := sample()
	c.Dir = t.TempDir()
	if _, err := d.Start(t.Context(), c); err == nil || !strings.Contains(err.Error(), "/nowhere/qemu") {
		t.Errorf("got %v", err)
	}
}

func TestParseStat(t *testing.T) {
	line := "42 (evil) R 1) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 5 0 1000 2000000 1234 18446744073709551615 1"
	u, err := parseStat([]byte(line), 4096)
	if err != nil || u.CPU.Seconds() != 3 || u.Resident != 1234*4096 {
		t.Errorf("got %+v, %v", u, err)
	}
	for _, bad := range []string{"", "42 (x) S 1", strings.Replace(line, "250", "x", 1)} {
		if _, err := parseStat([]byte(bad), 4096); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
