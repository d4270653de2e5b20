package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sbx/internal/debian"
)

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
