package vmmtest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sbx/internal/vmm"
)

// envChild names, to a child, the test that it is to be.
const envChild = "VMMTEST_CHILD"

func isChild(t *testing.T) bool { return os.Getenv(envChild) == t.Name() }

// child is this test binary, with only the present test to run.
func child(t *testing.T, f Fixture) *exec.Cmd {
	t.Helper()
	var pattern []string
	for _, part := range strings.Split(t.Name(), "/") {
		pattern = append(pattern, "^"+regexp.QuoteMeta(part)+"$")
	}
	args := []string{"-test.v", "-test.count=1", "-test.run=" + strings.Join(pattern, "/")}
	if at, ok := t.Deadline(); ok {
		args = append(args, fmt.Sprintf("-test.timeout=%s", time.Until(at)))
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), envChild+"="+t.Name(), envInitrd+"="+f.Initrd)
	return cmd
}

// wantGone waits for the end of a process, which needs not be our child.
func wantGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return
	}
	if err != nil {
		t.Fatalf("watch process %d: %v", pid, err)
	}
	defer unix.Close(fd)
	at, ok := deadline(t).Deadline()
	if !ok {
		at = time.Now().Add(time.Minute)
	}
	// A pidfd can be read when its process has ended.
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(time.Until(at).Milliseconds()))
	if n != 1 {
		t.Errorf("process %d is still there (%v)", pid, err)
	}
}

// testSupervisorKilled: no machine outlives the process that started it.
func testSupervisorKilled(t *testing.T, d vmm.Driver, f Fixture) {
	if isChild(t) {
		m := start(t, d, f.config(t))
		fmt.Printf("\nmonitor is %d in %s\n", m.PID(), os.TempDir())
		select {} // until killed
	}
	tmp := runtimeDir(t)
	cmd := child(t, f)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	pid := 0
	for lines := bufio.NewScanner(out); pid == 0 && lines.Scan(); {
		said = append(said, lines.Text())
		if rest, ok := strings.CutPrefix(lines.Text(), "monitor is "); ok {
			pid, _ = strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if pid == 0 {
		t.Fatalf("the child started no machine: %s", strings.Join(said, "\n"))
	}
	wantGone(t, pid)
}

// testDiskFull needs a file system that is small: a tmpfs in a mount namespace
// that only a child is in, so that nothing is left mounted.
func testDiskFull(t *testing.T, d vmm.Driver, f Fixture) {
	if isChild(t) {
		fillDisk(t, d, f)
		return
	}
	cmd := child(t, f)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if _, ran := err.(*exec.ExitError); err != nil && !ran {
		t.Skipf("this host allows no mount namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), "--- SKIP: "+t.Name()) {
		t.Skipf("%s", out)
	}
	if !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("the child did not run the test:\n%s", out)
	}
}

func fillDisk(t *testing.T, d vmm.Driver, f Fixture) {
	dir := t.TempDir()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skipf("this host allows no private mounts: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Skipf("this host allows no tmpfs in a namespace: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })

	c := f.config(t)
	c.Disks = []vmm.Disk{{Path: filepath.Join(dir, "disk"), Format: "raw"}}
	sparse(t, c.Disks[0].Path, 64<<20)
	m := start(t, d, c)
	g := connect(t, m)
	g.send(t, "pattern write /dev/vda 0 32 3")
	stopped := func() bool {
		state, err := m.State(deadline(t))
		if err != nil {
			t.Fatal(err)
		}
		return state == vmm.IOError
	}
	eventually(t, "the machine stops when the disk is full", stopped)
	if err := m.Resume(deadline(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it stops again when nothing has changed", stopped)
	if err := m.Pause(deadline(t)); err != nil {
		t.Errorf("Pause of a machine that is stopped: %v", err)
	}

	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	if err := m.Resume(deadline(t)); err != nil {
		t.Fatal(err)
	}
	g.answer(t)
	g.order(t, "pattern check /dev/vda 0 32 3")
	if state, err := m.State(context.WithoutCancel(t.Context())); state != vmm.Running {
		t.Errorf("with space on the disk, the machine is %q, %v", state, err)
	}
}
