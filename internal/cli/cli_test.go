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

func TestMessages(t *testing.T) {
	for _, test := range []struct {
		settings string
		args     string
		code     int
		says     string
	}{
		{"", "help exce", 2, `unknown help topic "exce"; did you mean "exec"`},
		{"", "help nosuch", 2, "unknown help topic"},
		{"", "help files", 0, ""},
		{"", "settings lst", 2, `unknown command "lst"; did you mean "list"`},
		{"", "exec web", 2, "name the sandbox and the command; usage: sbx exec [-it] [flags] NAME [--] CMD [ARG...]\n"},
		{"", "stop", 2, "usage: sbx stop NAME..."},
		{"", "ls x", 2, "one argument too many"},
		{"", "prune", 0, "nothing to do"},
		{"", "reset", 1, "--force"},
		{"vm.nosuch: 1\n", "ls", 0, "warning: "},
		{"vm.nosuch: 1\n", "diagnose --nosuch", 2, "unknown flag"},
		{"vm.nosuch: 1\n", "logs web", 1, "no sandbox is named"},
		{"vm.nosuch: 1\n", "exec web true", 125, "sbx settings set KEY VALUE"},
		{"vm.nosuch: 1\n", "create shell", 1, "sbx settings set KEY VALUE"},
	} {
		a := testApp(t)
		os.MkdirAll(a.dirs.Config, 0o700)
		os.WriteFile(a.settingsPath(), []byte(test.settings), 0o600)
		code, _, stderr := a.run(strings.Fields(test.args)...)
		if code != test.code || !strings.Contains(stderr, test.says) {
			t.Errorf("sbx %s: code %d, %s", test.args, code, stderr)
		}
	}
}
