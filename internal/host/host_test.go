package host

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sbx/internal/debian"
	"sbx/internal/dirs"
	"sbx/internal/progress"
	"sbx/internal/settings"
	"sbx/internal/vmm/qemu"
)

const testMirror = "https://mirror.example/debian"

// machine is a computer that a test describes.
type machine struct {
	*system
	programs map[string]bool
	// answers are what programs print, by the beginning of the command line;
	// ran are the command lines that changed the system.
	answers map[string]string
	ran     []string
	fails   string // command lines with this in them fail
}

// bookworm is a Debian 12 on which everything is installed.
func bookworm(t *testing.T) *machine {
	m := &machine{programs: map[string]bool{}, answers: map[string]string{}}
	for _, p := range []string{"apt-get", "qemu-img", "mmdebstrap", "e2fsck", "newuidmap", "sudo"} {
		m.programs[p] = true
	}
	m.system = &system{
		root: t.TempDir(), os: "linux", arch: "amd64", uid: 0, user: "eva",
		lookPath: func(p string) (string, error) {
			if m.programs[p] {
				return "/usr/bin/" + p, nil
			}
			return "", os.ErrNotExist
		},
		run: func(_ context.Context, argv ...string) ([]byte, error) {
			for prefix, answer := range m.answers {
				if strings.HasPrefix(strings.Join(argv, " "), prefix) {
					return []byte(answer), nil
				}
			}
			return nil, errors.New("no answer")
		},
		mirror: func(context.Context) (debian.Mirror, error) {
			return debian.Mirror{URI: testMirror, Keyring: "/usr/share/keyrings/debian-archive-keyring.gpg"}, nil
		},
		userNamespace: func(context.Context) error { return nil },
	}
	m.exec = m.execute
	m.qemuIs("7.2")
	m.file(t, "/etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n")
	m.file(t, "/usr/share/keyrings/debian-archive-keyring.gpg", "keys")
	m.file(t, "/etc/apt/sources.list.d/debian.sources", "")
	return m
}

// execute does what install and rm would do, so that files can be looked at.
func (m *machine) execute(_ context.Context, _ io.Writer, argv ...string) error {
	line := strings.Join(argv, " ")
	m.ran = append(m.ran, line)
	if m.fails != "" && strings.Contains(line, m.fails) {
		return errors.New("exit status 100")
	}
	if argv[0] == "sudo" {
		argv = argv[1:]
	}
	switch argv[0] {
	case "install":
		data, err := os.ReadFile(argv[len(argv)-2])
		if err != nil {
			return err
		}
		return os.WriteFile(argv[len(argv)-1], data, 0o644)
	case "rm":
		return os.Remove(argv[len(argv)-1])
	}
	return nil
}

func (m *machine) file(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.path(path)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(m.path(path), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// qemuIs installs a version of QEMU, or none.
func (m *machine) qemuIs(version string) {
	m.findQEMU = func(context.Context, string) (*qemu.Installation, error) {
		inst := &qemu.Installation{Binary: "/usr/bin/qemu-system-x86_64", Image: "/usr/bin/qemu-img", Firmware: "/usr/share/qemu/qboot.rom"}
		switch version {
		case "":
			return nil, qemu.ErrNotInstalled
		case "5.2":
			return nil, qemu.ErrTooOld
		case "7.2":
			inst.Version = qemu.Version{Major: 7, Minor: 2}
		case "10.0":
			inst.Version = qemu.Version{Major: 10}
		}
		return inst, nil
	}
}

func options(t *testing.T) Options {
	t.Helper()
	root := t.TempDir()
	s, err := settings.Load(filepath.Join(root, "settings.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := dirs.Dirs{Config: root + "/config", State: root + "/state", Cache: root + "/cache", Runtime: root + "/run"}
	return Options{Dirs: d, Settings: s}
}

// ui records what it is told and says yes.
type ui struct {
	said   []string
	stages []string
	answer bool
	asked  int
}

func (u *ui) Say(line string) { u.said = append(u.said, line) }
func (u *ui) Confirm(string) (bool, error) {
	u.asked++
	return u.answer, nil
}
func (u *ui) Progress() (progress.Func, func()) {
	return func(stage string, _, _ int64) { u.stages = append(u.stages, stage) }, func() {}
}

// fake is an artifact that is prepared once.
func fake(name string, prepared *bool) artifact {
	return artifact{
		name: name, what: "prepare the " + name,
		ready: func(context.Context) error {
			if *prepared {
				return nil
			}
			return errors.New("not prepared")
		},
		verify:  func(context.Context) (string, error) { return name, nil },
		prepare: func(context.Context, reportFunc) error { *prepared = true; return nil },
	}
}

func commands(p *Plan) string {
	var all []string
	for _, s := range p.Steps {
		all = append(all, s.Commands...)
	}
	return strings.Join(all, "\n")
}

func TestPlan(t *testing.T) {
	const refresh, get = "apt-get --option DPkg::Lock::Timeout=600 update", "apt-get --option DPkg::Lock::Timeout=600 install --yes --no-install-recommends "
	for _, test := range []struct {
		name    string
		change  func(t *testing.T, m *machine, o *Options)
		want    []string // parts of the commands, in order
		exclude string
	}{
		{"all there", func(_ *testing.T, m *machine, _ *Options) { m.qemuIs("10.0") }, nil, ""},
		{"QEMU 7.2: offer backports", func(*testing.T, *machine, *Options) {},
			[]string{"write " + backportsSource, testMirror, refresh, get + "--target-release bookworm-backports qemu-system-x86 qemu-utils qemu-system-data"}, ""},
		{"no QEMU", func(_ *testing.T, m *machine, _ *Options) { m.qemuIs("") },
			[]string{"write " + backportsSource, "--target-release bookworm-backports"}, ""},
		{"backports are a source already", func(_ *testing.T, m *machine, _ *Options) {
			m.answers["apt-get indextargets"] = "bookworm\nbookworm-backports\n"
		}, []string{refresh, "--target-release bookworm-backports"}, "write"},
		{"backports refused by the user", func(t *testing.T, _ *machine, o *Options) {
			t.Setenv("SBX_SETUP_BACKPORTS", "false")
			o.Settings = options(t).Settings
		}, nil, ""},
		{"backports not on the mirror", func(t *testing.T, _ *machine, o *Options) {
			if err := mark(filepath.Join(o.Dirs.Cache, refusedMarker), testMirror); err != nil {
				t.Fatal(err)
			}
		}, nil, ""},
		{"no QEMU, no backports", func(t *testing.T, m *machine, o *Options) {
			m.qemuIs("")
			m.programs["qemu-img"] = false
			if err := mark(filepath.Join(o.Dirs.Cache, refusedMarker), testMirror); err != nil {
				t.Fatal(err)
			}
		}, []string{refresh, get + "qemu-system-x86 qemu-utils qemu-system-data"}, "backports"},
		{"Ubuntu", func(t *testing.T, m *machine, _ *Options) {
			m.qemuIs("")
			m.file(t, "/etc/os-release", "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n")
			if err := os.Remove(m.path("/usr/share/keyrings/debian-archive-keyring.gpg")); err != nil {
				t.Fatal(err)
			}
		}, []string{refresh, get + "qemu-system-x86", get + "debian-archive-keyring"}, "backports"},
		{"arm64", func(t *testing.T, m *machine, _ *Options) {
			m.arch = "arm64"
			m.qemuIs("5.2")
		}, []string{"qemu-system-arm qemu-utils"}, "qemu-system-data"},
		{"ordinary user without IDs", func(_ *testing.T, m *machine, _ *Options) {
			m.uid = 1000
			m.qemuIs("10.0")
			m.programs["newuidmap"] = false
		}, []string{refresh, get + "uidmap", "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 eva"}, ""},
		{"ordinary user with IDs", func(t *testing.T, m *machine, _ *Options) {
			m.uid = 1000
			m.qemuIs("10.0")
			m.file(t, "/etc/subuid", "eva:100000:65536\n")
			m.file(t, "/etc/subgid", "1000:100000:65536\n")
		}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, o := bookworm(t), options(t)
			test.change(t, m, &o)
			p, err := newPlan(t.Context(), o, m.system, parts{})
			if err != nil {
				t.Fatal(err)
			}
			got := commands(p)
			if len(test.want) == 0 && !p.Empty() {
				t.Errorf("not empty: %s", got)
			}
			rest := got
			for _, w := range test.want {
				_, after, ok := strings.Cut(rest, w)
				if !ok {
					t.Errorf("%q is missing in, or not in order:\n%s", w, got)
					break
				}
				rest = after
			}
			if test.exclude != "" && strings.Contains(got, test.exclude) {
				t.Errorf("%q is in:\n%s", test.exclude, got)
			}
			if len(m.ran) > 0 {
				t.Errorf("planning ran %q", m.ran)
			}
		})
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, m *machine, o *Options)
		want   string
	}{
		{"not Linux", func(_ *testing.T, m *machine, _ *Options) { m.os = "darwin" }, "need a Linux host"},
		{"no apt", func(_ *testing.T, m *machine, _ *Options) {
			m.qemuIs("")
			m.programs["apt-get"], m.programs["mmdebstrap"] = false, false
		}, "missing: qemu-system-x86, qemu-utils, qemu-system-data, mmdebstrap; "},
		{"no Debian mirror", func(_ *testing.T, m *machine, _ *Options) {
			m.qemuIs("10.0")
			m.mirror = func(context.Context) (debian.Mirror, error) { return debian.Mirror{}, debian.ErrNoMirror }
		}, "setup.mirror"},
		{"own QEMU is broken", func(t *testing.T, m *machine, o *Options) {
			t.Setenv("SBX_VM_QEMU", "/opt/qemu")
			o.Settings = options(t).Settings
			m.qemuIs("")
		}, "vm.qemu: "},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, o := bookworm(t), options(t)
			test.change(t, m, &o)
			missing := parts{artifacts: []artifact{fake("kernel", new(bool))}}
			if _, err := newPlan(t.Context(), o, m.system, missing); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestRunThenNothingIsLeftToDo(t *testing.T) {
	m, o := bookworm(t), options(t)
	m.answers["apt-cache policy"] = " 100 release o=Debian Backports,a=oldstable-backports,n=bookworm-backports,l=Debian Backports,c=main\n"
	var kernel, image bool
	p := parts{artifacts: []artifact{fake("kernel", &kernel), fake("template", &image)}}
	u := &ui{answer: true}
	plan, err := newPlan(t.Context(), o, m.system, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := plan.Run(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(m.path(backportsSource))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Types: deb", "URIs: " + testMirror, "Suites: bookworm-backports", "Components: main", "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg"} {
		if !slices.Contains(strings.Split(string(source), "\n"), line) {
			t.Errorf("the source lacks %q:\n%s", line, source)
		}
	}
	if !kernel || !image || u.asked != 1 {
		t.Errorf("kernel %v, template %v, asked %d times", kernel, image, u.asked)
	}

	m.qemuIs("10.0")
	m.ran = nil
	again, err := newPlan(t.Context(), o, m.system, p)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Run(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	if len(m.ran) > 0 || u.asked != 1 || !slices.Contains(u.said, "everything is in place") {
		t.Errorf("the second run did %q and said %q", m.ran, u.said)
	}
}

func TestRunWithoutBackportsOnTheMirror(t *testing.T) {
	for _, test := range []struct {
		present  string
		installs bool
	}{{"7.2", false}, {"", true}} {
		m, o := bookworm(t), options(t)
		m.qemuIs(test.present)
		m.fails = "update"
		m.answers["apt-cache policy"] = " 500 release o=Debian,a=oldstable,n=bookworm,l=Debian,c=main\n"
		plan, err := newPlan(t.Context(), o, m.system, parts{})
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.Run(t.Context(), &ui{answer: true}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(m.path(backportsSource)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("QEMU %q: the source is still there", test.present)
		}
		line := strings.Join(m.ran, "\n")
		if strings.Contains(line, "--target-release") || strings.Contains(line, "install --yes") != test.installs {
			t.Errorf("QEMU %q: ran\n%s", test.present, line)
		}
		again, err := newPlan(t.Context(), o, m.system, parts{})
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(commands(again), "backports") {
			t.Errorf("QEMU %q: tries again:\n%s", test.present, commands(again))
		}
	}
}

func TestRunAsksAndNeedsRights(t *testing.T) {
	t.Run("declined", func(t *testing.T) {
		m, o := bookworm(t), options(t)
		plan, _ := newPlan(t.Context(), o, m.system, parts{})
		if err := plan.Run(t.Context(), &ui{}); !errors.Is(err, ErrDeclined) {
			t.Errorf("error %v", err)
		}
		if len(m.ran) > 0 {
			t.Errorf("ran %q", m.ran)
		}
	})
	t.Run("neither root nor sudo", func(t *testing.T) {
		m, o := bookworm(t), options(t)
		m.uid, m.programs["sudo"] = 1000, false
		plan, _ := newPlan(t.Context(), o, m.system, parts{})
		err := plan.Run(t.Context(), &ui{answer: true})
		if err == nil || !strings.Contains(err.Error(), "usermod --add-subuids") || len(m.ran) > 0 {
			t.Errorf("error %v, ran %q", err, m.ran)
		}
	})
	t.Run("sudo", func(t *testing.T) {
		m, o := bookworm(t), options(t)
		m.uid = 1000
		m.qemuIs("10.0")
		plan, _ := newPlan(t.Context(), o, m.system, parts{})
		u := &ui{answer: true}
		if err := plan.Run(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		if want := []string{"sudo -n true", "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 eva"}; !slices.Equal(m.ran, want) {
			t.Errorf("ran %q, want %q", m.ran, want)
		}
		if !slices.ContainsFunc(u.said, func(s string) bool { return strings.Contains(s, "sudo usermod") }) {
			t.Errorf("the command was not shown: %q", u.said)
		}
	})
	t.Run("a failed step says how to go on", func(t *testing.T) {
		m, o := bookworm(t), options(t)
		m.programs["mmdebstrap"] = false
		m.qemuIs("10.0")
		m.fails = "mmdebstrap"
		plan, _ := newPlan(t.Context(), o, m.system, parts{})
		err := plan.Run(t.Context(), &ui{answer: true})
		if err == nil || !strings.Contains(err.Error(), "goes on from there") {
			t.Errorf("error %v", err)
		}
	})
}

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
