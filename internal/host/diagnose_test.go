package host

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"sbx/internal/settings"
)

func find(t *testing.T, checks []Check, name string) Check {
	t.Helper()
	for _, c := range checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %+v", name, checks)
	return Check{}
}

func TestDiagnose(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, m *machine, o *Options)
		check  string
		want   Status
		mend   string
	}{
		{"new QEMU", func(_ *testing.T, m *machine, _ *Options) { m.qemuIs("10.0") }, "qemu", OK, ""},
		{"old QEMU", func(*testing.T, *machine, *Options) {}, "qemu", Warn, "sbx setup"},
		{"no QEMU", func(_ *testing.T, m *machine, _ *Options) { m.qemuIs("") }, "qemu", Fail, "sbx setup"},
		{"tools", func(*testing.T, *machine, *Options) {}, "tools", OK, ""},
		{"missing tool", func(_ *testing.T, m *machine, _ *Options) { m.programs["mmdebstrap"] = false }, "tools", Warn, "sbx setup"},
		{"root", func(*testing.T, *machine, *Options) {}, "user-namespaces", OK, ""},
		{"no IDs", func(_ *testing.T, m *machine, _ *Options) { m.uid = 1000 }, "user-namespaces", Warn, "sbx setup"},
		{"no namespaces", func(t *testing.T, m *machine, _ *Options) {
			m.uid = 1000
			m.file(t, "/etc/subuid", "eva:1:65536\n")
			m.file(t, "/etc/subgid", "eva:1:65536\n")
			m.file(t, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1\n")
			m.userNamespace = func(context.Context) error { return os.ErrPermission }
		}, "user-namespaces", Warn, "apparmor_restrict"},
		{"directories", func(*testing.T, *machine, *Options) {}, "directories", OK, ""},
		{"a file in the way", func(t *testing.T, _ *machine, o *Options) {
			if err := os.WriteFile(o.Dirs.State, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "directories", Fail, "XDG_STATE_HOME"},
		{"open state", func(t *testing.T, _ *machine, o *Options) {
			if err := os.Mkdir(o.Dirs.State, 0o755); err != nil {
				t.Fatal(err)
			}
		}, "directories", Warn, "chmod 700"},
		{"long path", func(_ *testing.T, _ *machine, o *Options) { o.Dirs.Runtime = "/run/" + strings.Repeat("x", 40) }, "socket-path", Warn, "XDG_RUNTIME_DIR"},
		{"too long path", func(_ *testing.T, _ *machine, o *Options) { o.Dirs.Runtime = "/run/" + strings.Repeat("x", 90) }, "socket-path", Fail, "XDG_RUNTIME_DIR"},
		{"not Linux", func(_ *testing.T, m *machine, _ *Options) { m.os = "darwin" }, "host", Fail, "Linux"},
		{"extra", func(_ *testing.T, _ *machine, o *Options) {
			o.Extra = append(o.Extra, func(context.Context) []Check { return []Check{{Name: "stale-state", Status: Warn, Mend: "x"}} })
		}, "stale-state", Warn, "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, o := bookworm(t), options(t)
			test.change(t, m, &o)
			checks := diagnose(t.Context(), o, m.system, parts{})
			c := find(t, checks, test.check)
			if c.Status != test.want || !strings.Contains(c.Mend, test.mend) {
				t.Errorf("%+v, want %s and %q", c, test.want, test.mend)
			}
			for _, c := range checks {
				if c.Status != OK && c.Mend == "" {
					t.Errorf("%s has no mend", c.Name)
				}
			}
		})
	}
}

func TestWorst(t *testing.T) {
	for _, test := range []struct {
		in   []Status
		want Status
	}{{nil, OK}, {[]Status{OK, Warn}, Warn}, {[]Status{Fail, Warn, OK}, Fail}, {[]Status{Warn, Fail, Warn}, Fail}} {
		var checks []Check
		for _, s := range test.in {
			checks = append(checks, Check{Status: s})
		}
		if got := Worst(checks); got != test.want {
			t.Errorf("Worst(%v) = %s", test.in, got)
		}
	}
}

func TestMemory(t *testing.T) {
	n, err := DefaultMemory()
	if err != nil || n < settings.MinMemory || n > maxDefaultMemory || n%(1<<20) != 0 {
		t.Errorf("DefaultMemory = %d, %v", n, err)
	}
	if CheckMemory(settings.MinMemory) != nil || CheckMemory(1<<50) == nil {
		t.Error("CheckMemory is wrong")
	}
}

func TestTail(t *testing.T) {
	var s tail
	io.WriteString(&s, "Reading...\nE: Unable to locate package x\nmore\n")
	if got := s.last(); got != "Unable to locate package x" {
		t.Errorf("got %q", got)
	}
}
