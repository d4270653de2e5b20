package host

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
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
