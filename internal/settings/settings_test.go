package settings

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestDefaultsAreValid(t *testing.T) {
	for _, d := range definitions {
		if err := d.check(d.Default); err != nil {
			t.Errorf("%s: %v", d.Key, err)
		}
		if d.Description == "" {
			t.Errorf("%s has no description", d.Key)
		}
	}
}

func TestLoad(t *testing.T) {
	path := write(t, "# mine\nvm:\n  accel: tcg # slow\n  idle-timeout: 0\n  memory: \"2g\"\n  cpus: 2\nterminal: {detach-keys: 'ctrl-]'}\nsetup:\n")
	env := map[string]string{"SBX_VM_DISK": "40g"}
	s, err := load(path, func(k string) (string, bool) { v, ok := env[k]; return v, ok })
	if err != nil {
		t.Fatal(err)
	}
	if s.Accel() != "tcg" || s.IdleTimeout() != 0 || s.Memory() != 2<<30 || s.CPUs() != 2 || s.Disk() != 40<<30 ||
		!bytes.Equal(s.DetachKeys(), []byte{0x1d}) || s.Mirror() != "" || s.QEMU() != "" {
		t.Errorf("unexpected values: %+v", s.List())
	}
	for key, want := range map[string]string{"vm.accel": FromFile, "vm.disk": FromEnvironment, "vm.qemu": FromDefault} {
		if v, err := s.Get(key); err != nil || v.Source != want {
			t.Errorf("%s: source %q (%v), want %q", key, v.Source, err, want)
		}
	}
}

func TestLoadWithoutFile(t *testing.T) {
	s, err := load(filepath.Join(t.TempDir(), "none.yaml"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	if s.Accel() != "auto" || s.IdleTimeout() != 10*time.Minute || s.Memory() != 0 || s.Disk() != 20<<30 {
		t.Errorf("unexpected defaults: %+v", s.List())
	}
}

func TestLoadRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"unknown key", "vm:\n  acel: kvm\n", `:2: unknown setting "vm.acel"; did you mean "vm.accel"?`},
		{"unknown section", "wm:\n  accel: kvm\n", `:2: unknown setting "wm.accel"; did you mean "vm.accel"?`},
		{"unknown empty section", "vm:\nsetpu:\n", `:2: unknown setting "setpu"; did you mean "setup"?`},
		{"bad value", "vm:\n  cpus: 2\n  accel: hvf\n", `:3: vm.accel: "hvf" is not one of auto, kvm, tcg`},
		{"bad size", "vm:\n  memory: much\n", `:2: vm.memory: "much" is not a size`},
		{"tiny", "vm:\n  memory: 1k\n", `:2: vm.memory: "1k" is out of bounds`},
		{"huge", "vm:\n  memory: 10t\n", `:2: vm.memory: "10t" is out of bounds`},
		{"list", "vm:\n  accel: [kvm]\n", `:2: vm.accel: expected a single value, not a list`},
		{"scalar section", "vm: 3\n", `:1: vm is a group of settings`},
		{"mapping value", "vm:\n  accel:\n    x: 1\n", `:3: unknown setting "vm.accel.x"`},
		{"twice", "vm:\n  cpus: 2\n  cpus: 3\n", `:3: `},
		{"not yaml", "vm:\n\taccel: kvm\n", `:2: not valid YAML`},
		{"unclosed", "vm: {accel: kvm\n", `not valid YAML`},
		{"top list", "- a\n", `:1: expected settings`},
		{"two documents", "vm:\n  cpus: 1\n---\nvm:\n  cpus: 2\n", `more than one`},
		{"relative path", "vm:\n  qemu: bin/qemu\n", `:2: vm.qemu: "bin/qemu" is not an absolute path`},
		{"mirror", "setup:\n  mirror: \"http://m/ x\"\n", `:2: setup.mirror`},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.text)
			_, err := load(path, func(string) (string, bool) { return "", false })
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("error has several lines: %v", err)
			}
		})
	}
}

func TestLoadRefusesEnvironment(t *testing.T) {
	_, err := load(filepath.Join(t.TempDir(), "x"), func(k string) (string, bool) { return "fast", k == "SBX_VM_ACCEL" })
	if err == nil || !strings.Contains(err.Error(), "SBX_VM_ACCEL") {
		t.Errorf("error %v", err)
	}
}

func TestSetKeepsTheRest(t *testing.T) {
	for _, test := range []struct{ name, before, key, value, after string }{
		{"no file text", "", "vm.accel", "kvm", "vm:\n  accel: kvm\n"},
		{"only comments", "# mine\n", "vm.accel", "kvm", "# mine\n\nvm:\n  accel: kvm\n"},
		{"no line end", "vm:\n  cpus: 2", "vm.accel", "kvm", "vm:\n  cpus: 2\n  accel: kvm\n"},
		{"replace", "# a\nvm:\n    # b\n    accel:   tcg   # slow\n\n    cpus: 2\n", "vm.accel", "kvm",
			"# a\nvm:\n    # b\n    accel:   kvm   # slow\n\n    cpus: 2\n"},
		{"replace quoted", "vm:\n  accel: \"tcg\" # x\n", "vm.accel", "kvm", "vm:\n  accel: kvm # x\n"},
		{"replace quoted escapes", "vm:\n  qemu: \"/a\\tb\" # x\n", "vm.qemu", "/q", "vm:\n  qemu: /q # x\n"},
		{"unicode before", "vm: {qemu: /ü/é, accel: tcg} # ß\n", "vm.accel", "kvm", "vm: {qemu: /ü/é, accel: kvm} # ß\n"},
		{"add to section", "vm:\n  cpus: 2 # two\n# tail\nsetup:\n", "vm.accel", "kvm", "vm:\n  cpus: 2 # two\n  accel: kvm\n# tail\nsetup:\n"},
		{"add to empty section", "vm: # later\nsetup:\n", "vm.accel", "kvm", "vm: # later\n  accel: kvm\nsetup:\n"},
		{"add section", "vm:\n  cpus: 2\n", "setup.mirror", "http://mirror.example/debian", "vm:\n  cpus: 2\n\nsetup:\n  mirror: http://mirror.example/debian\n"},
		{"key without value", "vm:\n  accel: # what\n", "vm.accel", "kvm", "vm:\n  accel: kvm # what\n"},
		{"flow needs quotes", "terminal: {detach-keys: x}\n", "terminal.detach-keys", "a,b", "terminal: {detach-keys: \"a,b\"}\n"},
		{"mend a bad value", "vm:\n  accel: hvf\n", "vm.accel", "kvm", "vm:\n  accel: kvm\n"},
		{"awkward value", "", "vm.qemu", "/opt/a: b #c", "vm:\n  qemu: \"/opt/a: b #c\"\n"},
		{"empty value", "vm:\n  qemu: /q\n", "vm.qemu", "", "vm:\n  qemu: \"\"\n"},
		{"CRLF", "vm:\r\n  accel: tcg\r\n", "vm.accel", "kvm", "vm:\r\n  accel: kvm\r\n"},
		{"number", "", "vm.idle-timeout", "0", "vm:\n  idle-timeout: 0\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.before)
			if err := Set(path, test.key, test.value); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); got != test.after {
				t.Errorf("got %q, want %q", got, test.after)
			}
			s, err := Load(path)
			if err != nil {
				t.Fatal(err)
			}
			if v, _ := s.Get(test.key); v.Value != test.value {
				t.Errorf("reads back as %q", v.Value)
			}
		})
	}
}

func TestSetRefuses(t *testing.T) {
	for _, test := range []struct{ name, text, key, value, want string }{
		{"unknown", "", "vm.acel", "kvm", "did you mean"},
		{"bad value", "", "vm.accel", "hvf", "vm.accel: "},
		{"broken file", "vm: {", "vm.accel", "kvm", "mend it first"},
		{"strange layout", "vm:\n  qemu: |\n    /x\n", "vm.qemu", "/y", "by hand"},
		{"flow section", "vm: {cpus: 2}\n", "vm.accel", "kvm", "by hand"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.text)
			if err := Set(path, test.key, test.value); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			if got := read(t, path); got != test.text {
				t.Errorf("the file changed to %q", got)
			}
		})
	}
}

func TestUnset(t *testing.T) {
	for _, test := range []struct{ name, before, key, after string }{
		{"not there", "vm:\n  cpus: 2\n", "vm.accel", "vm:\n  cpus: 2\n"},
		{"one of two", "vm:\n  cpus: 2\n  accel: kvm\n", "vm.cpus", "vm:\n  accel: kvm\n"},
		{"the last", "# a\nvm:\n  cpus: 2\n# b\n", "vm.cpus", "# a\n# b\n"},
		{"the last below a comment", "vm:\n  # why\n  cpus: 2\n", "vm.cpus", "vm:\n  # why\n"},
		{"unknown but there", "vm:\n  acel: 2\n  cpus: 1\n", "vm.acel", "vm:\n  cpus: 1\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, test.before)
			if err := Unset(path, test.key); err != nil {
				t.Fatal(err)
			}
			if got := read(t, path); got != test.after {
				t.Errorf("got %q, want %q", got, test.after)
			}
		})
	}
	if err := Unset(filepath.Join(t.TempDir(), "no", "file"), "vm.cpus"); err != nil {
		t.Errorf("without a file: %v", err)
	}
	if err := Unset(write(t, ""), "vm.acel"); err == nil {
		t.Error("an unknown key that isn't there was accepted")
	}
}

func TestSetThroughSymlink(t *testing.T) {
	target := write(t, "vm:\n  cpus: 1\n")
	link := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	if err := Set(link, "vm.cpus", "3"); err != nil {
		t.Fatal(err)
	}
	if got := read(t, target); got != "vm:\n  cpus: 3\n" {
		t.Errorf("target holds %q", got)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v %v", info, err)
	}
}

func TestConcurrentSets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "settings.yaml")
	var wg sync.WaitGroup
	values := map[string]string{"vm.accel": "kvm", "vm.cpus": "3", "vm.memory": "1g", "vm.disk": "5g", "setup.mirror": "file:///srv/debian"}
	for key, value := range values {
		wg.Go(func() {
			if err := Set(path, key, value); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range values {
		if v, _ := s.Get(key); v.Value != value {
			t.Errorf("%s = %q, want %q", key, v.Value, value)
		}
	}
}

func TestParseDetachKeys(t *testing.T) {
	for _, test := range []struct {
		in   string
		want []byte
		ok   bool
	}{
		{"ctrl-p,ctrl-q", []byte{0x10, 0x11}, true},
		{"Ctrl-A,d", []byte{1, 'd'}, true},
		{"ctrl-@", []byte{0}, true},
		{"ctrl-\\", []byte{0x1c}, true},
		{"none", nil, true},
		{"", nil, false},
		{"ctrl-", nil, false},
		{"ctrl-1", nil, false},
		{"alt-x", nil, false},
		{"a,,b", nil, false},
	} {
		got, err := ParseDetachKeys(test.in)
		if (err == nil) != test.ok || !bytes.Equal(got, test.want) {
			t.Errorf("ParseDetachKeys(%q) = %v, %v", test.in, got, err)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1: "1", 512 << 20: "512m", 4 << 30: "4g", 1536 << 20: "1536m", 1 << 40: "1t"} {
		if got := FormatSize(n); got != want {
			t.Errorf("FormatSize(%d) = %q, want %q", n, got, want)
		}
	}
}

// FuzzSet: whatever the file looks like, Set either fails and leaves it alone
// or changes that one value and no other.
func FuzzSet(f *testing.F) {
	for _, text := range []string{"", "vm:\n  accel: tcg # x\n", "vm: {cpus: 2, accel: kvm}\n", "vm:\n", "a: &x 1\nb: *x\n", "\"vm\":\n  'accel': |\n   kvm\n", "? vm\n: accel: tcg\n", "--- \nvm:\n  accel: tcg\n...\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		before, err := parse("f", []byte(text))
		if err != nil {
			return
		}
		lines, err := before.with("vm.accel", "kvm")
		if err != nil {
			return
		}
		after, err := parse("f", []byte(strings.Join(lines, "")))
		if err != nil {
			t.Fatalf("no longer valid: %v", err)
		}
		want := before.values()
		want["vm.accel"] = "kvm"
		if fmt.Sprint(after.values()) != fmt.Sprint(want) {
			t.Fatalf("%v, want %v", after.values(), want)
		}
	})
}
