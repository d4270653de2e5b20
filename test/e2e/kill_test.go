package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestKilledAtAnyMoment kills the CLI, the supervisor, QEMU or all three at
// random moments of create, start, stop and rm, and checks that the next
// commands work, that what was fsynced is there, and that nothing leaks.
// SBX_TEST_KILLS sets how often (make soak: 30).
func TestKilledAtAnyMoment(t *testing.T) {
	kills := 4
	if n, err := strconv.Atoi(os.Getenv("SBX_TEST_KILLS")); err == nil {
		kills = n
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	w := newWorld(t)
	k := &killer{world: w, t: t, random: random, folder: w.folder("project")}
	for i := range kills {
		k.round(i)
	}
}

type killer struct {
	*world
	t      *testing.T
	random *rand.Rand
	folder string
	synced string // what the disk must hold, if there is a sandbox
	took   map[string]time.Duration
}

// round makes sure of a state, then kills in the middle of one operation.
func (k *killer) round(i int) {
	operation := []string{"create", "start", "stop", "rm"}[i%4]
	victim := []string{"cli", "supervisor", "monitor", "all"}[k.random.IntN(4)]
	k.prepare(operation)
	args := map[string][]string{
		"create": {"create", "--name", "victim", "shell", k.folder},
		"start":  {"start", "victim"},
		"stop":   {"stop", "victim"},
		"rm":     {"rm", "-f", "victim"},
	}[operation]
	cmd := k.command(args...)
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	moment := time.Duration(k.random.Int64N(int64(k.span(operation))))
	k.t.Logf("round %d: %s of the %s after %v", i, operation, victim, moment)
	time.Sleep(moment)
	k.kill(victim, cmd)
	cmd.Wait()
	k.recover(operation)
}

// span is about how long an operation takes here, from those that were seen.
func (k *killer) span(operation string) time.Duration {
	if d := k.took[operation]; d > 0 {
		return d
	}
	return map[string]time.Duration{"create": 4 * time.Second, "start": 4 * time.Second, "stop": time.Second, "rm": 300 * time.Millisecond}[operation]
}

func (k *killer) prepare(operation string) {
	k.t.Helper()
	if k.took == nil {
		k.took = map[string]time.Duration{}
	}
	exists := len(k.names()) > 0
	if operation == "create" {
		if exists {
			k.sbx("rm", "-f", "victim")
		}
		k.synced = ""
		return
	}
	if !exists {
		start := time.Now()
		k.sbx("create", "--name", "victim", "shell", k.folder)
		k.took["create"] = time.Since(start)
	}
	k.synced = fmt.Sprint(k.random.Uint64())
	k.guest("victim", "echo "+k.synced+" >~/synced; sync ~/synced")
	if operation == "start" {
		start := time.Now()
		k.sbx("stop", "victim")
		k.took["stop"] = time.Since(start)
		k.took["start"] = k.took["create"]
	}
}

func (k *killer) kill(victim string, cmd *exec.Cmd) {
	match := map[string]string{"supervisor": "supervise victim", "monitor": "qemu-system"}
	for name, pattern := range match {
		if victim != name && victim != "all" {
			continue
		}
		for _, pid := range pidsOf(k.dir, pattern) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	if victim == "cli" || victim == "all" {
		cmd.Process.Kill()
	}
}

// recover uses the sandbox as a user would, without knowing what happened.
func (k *killer) recover(operation string) {
	k.t.Helper()
	out, err := k.try("ls")
	if err != nil {
		k.t.Fatalf("ls after a killed %s: %v: %s", operation, err, out)
	}
	names := k.names()
	if len(names) == 0 {
		if operation != "create" && operation != "rm" {
			k.t.Fatalf("the sandbox is lost after a killed %s", operation)
		}
		k.sbx("create", "--name", "victim", "shell", k.folder)
		k.synced = ""
	}
	script := "echo alive"
	if k.synced != "" {
		script = "cat ~/synced"
	}
	want := "alive"
	if k.synced != "" {
		want = k.synced
	}
	if got := strings.TrimSpace(k.guest("victim", script)); got != want {
		k.t.Errorf("after a killed %s the disk has %q, want %q", operation, got, want)
	}
	if errors := strings.TrimSpace(k.guest("victim", "sudo dmesg | grep -i 'ext4-fs error' || true")); errors != "" {
		k.t.Errorf("the disk is damaged: %s", errors)
	}
	for _, name := range k.names() {
		if name != "victim" {
			k.t.Errorf("unexpected sandbox %q", name)
		}
	}
	if n := len(pidsOf(k.dir, "qemu-system")); n != 1 {
		k.t.Errorf("%d QEMUs run, want 1", n)
	}
}

// pidsOf lists the processes of the world at dir whose command line contains
// pattern.
func pidsOf(dir, pattern string) []int {
	out, _ := exec.Command("pgrep", "-f", pattern).Output()
	var pids []int
	for _, field := range strings.Fields(string(out)) {
		pid, _ := strconv.Atoi(field)
		args, _ := os.ReadFile("/proc/" + field + "/cmdline")
		env, _ := os.ReadFile("/proc/" + field + "/environ")
		if strings.Contains(string(args)+string(env), dir) {
			pids = append(pids, pid)
		}
	}
	return pids
}
