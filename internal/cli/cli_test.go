package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sbx/internal/dirs"
	"sbx/internal/sandbox"
	"sbx/internal/settings"
)

// testApp has directories of its own and nobody to ask.
func testApp(t *testing.T) *app {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"CONFIG_HOME", "STATE_HOME", "CACHE_HOME", "RUNTIME_DIR"} {
		t.Setenv("XDG_"+name, filepath.Join(dir, name))
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { null.Close() })
	a := &app{stdin: null, stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, signals: &signals{}}
	if a.dirs, err = dirs.Find(); err != nil {
		t.Fatal(err)
	}
	if a.settings, err = settings.Load(a.settingsPath()); err != nil {
		t.Fatal(err)
	}
	if a.store, err = sandbox.Open(a.dirs); err != nil {
		t.Fatal(err)
	}
	return a
}

// run runs a command line, and returns its exit code and what it said.
func (a *app) run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	a.stdout, a.stderr = &out, &errs
	root := a.root()
	root.SetArgs(args)
	code, err := exitCode(context.Background(), root.ExecuteContext(context.Background()))
	if err != nil {
		a.tell(err.Error())
	}
	return code, out.String(), errs.String()
}

// says reports whether err says text; nothing must be no error.
func says(err error, text string) bool {
	if text == "" {
		return err == nil
	}
	return err != nil && strings.Contains(err.Error(), text)
}

func TestOnlyTextReachesTheTerminal(t *testing.T) {
	a := testApp(t)
	var out bytes.Buffer
	a.stderr = &out
	a.tell("a\x1b]52;c;aGk=\ab\x1b[2J\rc\nd")
	a.warn("e\x1b[31m\u009b")
	if out.String() != "sbx: ab c\nd\nsbx: warning: e\n" {
		t.Errorf("%q", out.String())
	}
}
