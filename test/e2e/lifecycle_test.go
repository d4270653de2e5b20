package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestOneOfTwoCreatesOfANameWins(t *testing.T) {
	w := newWorld(t)
	results := make([]error, 2)
	outputs := make([]string, 2)
	var both sync.WaitGroup
	for i := range results {
		both.Go(func() { outputs[i], results[i] = w.try("create", "--name", "same", "shell") })
	}
	both.Wait()
	if (results[0] == nil) == (results[1] == nil) {
		t.Fatalf("want exactly one winner, got %v and %v:\n%s\n%s", results[0], results[1], outputs[0], outputs[1])
	}
	loser := outputs[0]
	if results[0] == nil {
		loser = outputs[1]
	}
	if !strings.Contains(loser, "exists already") {
		t.Errorf("the loser is told: %s", loser)
	}
	if got := w.sbx("exec", "same", "echo", "works"); got != "works\n" {
		t.Errorf("the winner's sandbox says %q", got)
	}

	// Removed in the middle of an exec: both end.
	cmd := w.command("exec", "same", "sh", "-c", "echo begun; sleep 1000")
	var out syncBuffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, "begun")
	w.sbx("rm", "-f", "same")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 137 {
		t.Errorf("exec in a sandbox that was removed under it: exit code %d, want 137", code)
	}
}

func TestEightCreatesAtOnce(t *testing.T) {
	w := newWorld(t)
	w.env = append(w.env, "SBX_VM_MEMORY=512m")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			name := fmt.Sprintf("s%d", i)
			if out, err := w.try("create", "-q", "--name", name, "--cpus", "1", "shell"); err != nil || !strings.Contains(out, name) {
				t.Errorf("%s: %v: %s", name, err, out)
			}
		})
	}
	all.Wait()
	seen := map[string]bool{}
	for _, name := range w.names() {
		id := w.sbx("exec", name, "cat", "/etc/machine-id")
		if seen[id] || len(id) != 33 {
			t.Errorf("%s: machine-id %q is not its own", name, id)
		}
		seen[id] = true
	}
	if len(seen) != 8 {
		t.Errorf("%d sandboxes, want 8", len(seen))
	}
	w.sbx(append([]string{"rm", "-f"}, w.names()...)...)
	if names := w.names(); len(names) > 0 {
		t.Errorf("left after rm: %v", names)
	}
}

func TestPipesAreExact(t *testing.T) {
	w := newWorld(t)
	w.sbx("create", "--name", "pipe", "shell")
	data := make([]byte, 200<<20)
	rand.Read(data)
	want := sha256.Sum256(data)

	cmd := w.command("exec", "-i", "pipe", "cat")
	cmd.Stdin = bytes.NewReader(data)
	hash := sha256.New()
	cmd.Stdout = hash
	start := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	t.Logf("200 MB in and out: %.1f MB/s each way", 200/time.Since(start).Seconds())
	if !bytes.Equal(hash.Sum(nil), want[:]) {
		t.Error("200 MB through the sandbox came back changed")
	}

	// A signal to sbx is one to the command.
	cmd = w.command("exec", "pipe", "sh", "-c", `trap 'echo got it; exit 4' TERM; echo ready; while :; do sleep 0.1; done`)
	var out syncBuffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, "ready")
	cmd.Process.Signal(syscall.SIGTERM)
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.Contains(out.String(), "got it") {
		t.Errorf("after SIGTERM: exit code %d, output %q", code, out.String())
	}
}

func TestStopInTheMiddleOfAWrite(t *testing.T) {
	w := newWorld(t)
	w.sbx("create", "--name", "disk", "shell")
	w.sbx("exec", "disk", "sh", "-c", "echo precious >~/synced && sync ~/synced")
	cmd := w.command("exec", "disk", "sh", "-c", "echo begun; dd if=/dev/urandom of=$HOME/big bs=1M count=4000 2>/dev/null")
	var out syncBuffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out.waitFor(t, "begun")
	w.sbx("stop", "disk")
	cmd.Wait()
	if got := w.sbx("exec", "disk", "sh", "-c", "cat ~/synced; rm ~/big; dmesg | grep -ci 'ext4.*error' || true"); got != "precious\n0\n" && !strings.HasPrefix(got, "precious\n") {
		t.Errorf("after the stop: %q", got)
	}
}

func TestKilledPartsAreRecovered(t *testing.T) {
	w := newWorld(t)
	folder := w.folder("project")
	w.sbx("create", "--name", "hardy", "shell", folder)
	for i, victim := range []string{"supervisor", "monitor"} {
		file := fmt.Sprintf("f%d", i)
		w.sbx("exec", "hardy", "sh", "-c", "echo safe > ~/"+file+" && sync ~/"+file)
		before := w.ls()["hardy"]
		pid := before.PID
		if victim == "monitor" {
			pid = before.MonitorPID
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		waitGone(t, before.PID)
		waitGone(t, before.MonitorPID)
		if got := w.ls()["hardy"].Status; got != "stopped" {
			t.Errorf("status after the %s was killed: %s", victim, got)
		}
		if got := w.sbx("exec", "hardy", "sh", "-c", "cat ~/"+file); got != "safe\n" {
			t.Errorf("fsynced file after the %s was killed: %q", victim, got)
		}
	}
}

func TestIdleSandboxStops(t *testing.T) {
	w := newWorld(t)
	w.sbx("create", "--name", "idle", "--idle-timeout", "2s", "shell")
	deadline := time.Now().Add(patience)
	for w.ls()["idle"].Status != "stopped" {
		if time.Now().After(deadline) {
			t.Fatal("an idle sandbox goes on running")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if got := w.sbx("exec", "idle", "echo", "back"); got != "back\n" {
		t.Errorf("after it stopped by itself: %q", got)
	}
}

// waitGone returns when a process has ended, or is a zombie.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		stat, err := os.ReadFile(filepath.Join("/proc", fmt.Sprint(pid), "stat"))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives on", pid)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// syncBuffer collects a running command's output.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *syncBuffer) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(b.String(), text) {
		if time.Now().After(deadline) {
			t.Fatalf("output never had %q, but %q", text, b.String())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestForceEndsWhatHangs(t *testing.T) {
	w := newWorld(t)
	w.sbx("create", "--name", "stuck", "shell")
	// Halted, the supervisor answers nobody.
	if err := syscall.Kill(w.ls()["stuck"].PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	w.sbx("stop", "-f", "stuck")
	if got := w.ls()["stuck"].Status; got != "stopped" {
		t.Errorf("status %s, want stopped", got)
	}

	// Removed while it starts: both commands end, and nothing is left.
	start := w.command("start", "stuck")
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	for w.ls()["stuck"].Status == "stopped" {
		time.Sleep(10 * time.Millisecond)
	}
	w.sbx("rm", "-f", "stuck")
	if err := start.Wait(); err == nil {
		t.Error("the start of a sandbox that was removed succeeded")
	}
	if names := w.names(); len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}
