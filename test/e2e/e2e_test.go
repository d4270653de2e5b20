// Package e2e drives the real sbx binary against real virtual machines.
//
// Most tests are scripts in testdata (see testscript's documentation): each has
// XDG directories of its own and shares the prepared kernel and template. The
// rest need a pseudo-terminal, races or kill -9 and are written in Go.
package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// sbxBinary is built by make before the tests run.
var sbxBinary string

func TestMain(m *testing.M) {
	path, err := filepath.Abs("../../bin/sbx")
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e: build first: make build:", err)
		os.Exit(1)
	}
	if os.Getenv("SBX_TEST_CACHE") == "" {
		fmt.Fprintln(os.Stderr, `e2e: no prepared kernel and template; run: make setup && eval "$(scripts/testenv.sh)"`)
		os.Exit(1)
	}
	sbxBinary = path
	os.Exit(m.Run())
}

// world is one user's set of directories.
type world struct {
	t   testing.TB
	dir string // short: sockets live below it
	env []string
}

// newWorld makes fresh directories. At the end of the test all its sandboxes
// are removed, and it fails if a process of theirs is left.
func newWorld(t testing.TB) *world {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sbx-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: dir, env: append(hostEnv(), worldEnv(dir)...)}
	t.Cleanup(func() {
		for _, name := range w.names() {
			w.try("rm", "-f", name)
		}
		if left := processesOf(dir); len(left) > 0 {
			t.Errorf("processes left behind: %q", left)
		}
		os.RemoveAll(dir)
	})
	return w
}

// worldEnv are the variables that separate one world from another.
func worldEnv(dir string) []string {
	cache := os.Getenv("SBX_TEST_CACHE") // ends with /sbx
	return []string{
		"XDG_CONFIG_HOME=" + filepath.Join(dir, "config"),
		"XDG_STATE_HOME=" + filepath.Join(dir, "state"),
		"XDG_RUNTIME_DIR=" + filepath.Join(dir, "run"),
		"XDG_CACHE_HOME=" + filepath.Dir(cache),
		// Many at once on a small machine.
		"SBX_VM_MEMORY=768m",
		"PATH=" + filepath.Dir(sbxBinary) + ":" + os.Getenv("PATH"),
	}
}

func hostEnv() []string {
	var env []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "XDG_") && !strings.HasPrefix(kv, "PATH=") {
			env = append(env, kv)
		}
	}
	return env
}

func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(sbxBinary, args...)
	cmd.Env, cmd.Dir = w.env, w.dir
	return cmd
}

// try runs sbx and returns what it printed, both streams together.
func (w *world) try(args ...string) (string, error) {
	out, err := w.command(args...).CombinedOutput()
	return string(out), err
}

// sbx runs sbx, which must succeed, and returns its standard output.
func (w *world) sbx(args ...string) string {
	w.t.Helper()
	cmd := w.command(args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("sbx %q: %v\n%s%s", args, err, out, stderr.Bytes())
	}
	return string(out)
}

// folder makes a workspace.
func (w *world) folder(name string) string {
	w.t.Helper()
	dir := filepath.Join(w.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Fatal(err)
	}
	return dir
}

func (w *world) names() []string {
	out, _ := w.try("ls", "-q")
	return strings.Fields(out)
}

// listing is one entry of sbx ls --json.
type listing struct {
	Name       string `json:"name"`
	Status     string `json:"status"`
	PID        int    `json:"pid"`
	MonitorPID int    `json:"monitor_pid"`
}

func (w *world) ls() map[string]listing {
	w.t.Helper()
	var list []listing
	if err := json.Unmarshal([]byte(w.sbx("ls", "--json")), &list); err != nil {
		w.t.Fatal(err)
	}
	byName := map[string]listing{}
	for _, l := range list {
		byName[l.Name] = l
	}
	return byName
}

// processesOf lists the command lines of processes that mention dir in their
// arguments or environment.
func processesOf(dir string) []string {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	var found []string
	for _, p := range procs {
		if p == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		args, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		if bytes.Contains(args, []byte(dir)) || bytes.Contains(env, []byte(dir)) {
			found = append(found, strings.ReplaceAll(string(args), "\x00", " "))
		}
	}
	return found
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			dir, err := os.MkdirTemp("/tmp", "sbx-e2e-")
			if err != nil {
				return err
			}
			env.Vars = append(env.Vars, worldEnv(dir)...)
			env.Setenv("HOME", filepath.Join(dir, "home"))
			env.Setenv("W", dir)
			env.Defer(func() {
				w := &world{t: t, dir: dir, env: append(hostEnv(), worldEnv(dir)...)}
				for _, name := range w.names() {
					w.try("rm", "-f", name)
				}
				os.RemoveAll(dir)
			})
			return os.MkdirAll(filepath.Join(dir, "home"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": runForCode,
		},
	})
}

// runForCode is "code N program args...": the program must exit with N.
func runForCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	if exit, ok := err.(*exec.ExitError); ok {
		code = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if fmt.Sprint(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}
