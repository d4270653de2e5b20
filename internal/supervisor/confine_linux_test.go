package supervisor

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sbx/internal/dirs"
	"sbx/internal/sandbox"
)

// TestConfine confines a process of its own, since there is no way back.
func TestConfine(t *testing.T) {
	const variable = "SBX_TEST_CONFINE"
	if base := os.Getenv(variable); base != "" {
		confined(t, base)
		return
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Skip("this kernel has no Landlock")
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestConfine$", "-test.v")
	cmd.Env = append(os.Environ(), variable+"="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v: %s", err, out)
	}
}

func confined(t *testing.T, base string) {
	d := dirs.Dirs{State: filepath.Join(base, "state"), Runtime: filepath.Join(base, "run")}
	store, err := sandbox.Open(d)
	if err != nil {
		t.Fatal(err)
	}
	s := &supervisor{cfg: Config{Dirs: d, Store: store}, runtime: store.RuntimeDir("web"), record: &sandbox.Record{
		Name:       "web",
		Workspaces: []sandbox.Workspace{{Path: filepath.Join(base, "rw")}, {Path: filepath.Join(base, "ro"), ReadOnly: true}},
	}}
	for _, dir := range []string{"rw", "ro", "home", "state/sandboxes/web", "state/sandboxes/other", "run/web"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(base, dir, "file"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.confine(); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]struct{ read, write bool }{
		"rw":                    {true, true},
		"ro":                    {true, false},
		"home":                  {false, false},
		"state/sandboxes/web":   {true, true},
		"state/sandboxes/other": {false, false},
		"run/web":               {true, true},
	} {
		path := filepath.Join(base, dir, "file")
		_, readErr := os.ReadFile(path)
		writeErr := os.WriteFile(path, []byte("x"), 0o600)
		if errors.Is(readErr, fs.ErrPermission) == want.read || errors.Is(writeErr, fs.ErrPermission) == want.write {
			t.Errorf("%s: read: %v, write: %v", dir, readErr, writeErr)
		}
	}
	if err := exec.Command("/bin/true").Run(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a program can be executed: %v", err)
	}
	if err := os.RemoveAll(s.runtime); err != nil {
		t.Errorf("the runtime directory can't be removed: %v", err)
	}
}
