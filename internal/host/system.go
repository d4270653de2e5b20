package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"

	"sbx/internal/debian"
	"sbx/internal/vmm/qemu"
)

// system is the computer, as far as this package asks it anything; tests have
// one of their own.
type system struct {
	root     string // prefix of the absolute paths read below, for tests
	arch     string // GOARCH
	os       string // GOOS
	uid      int
	user     string
	lookPath func(string) (string, error)
	// run runs a program to its end and returns what it printed, for
	// questions; exec runs one that changes the system, with its output to w.
	run      func(ctx context.Context, argv ...string) ([]byte, error)
	exec     func(ctx context.Context, w io.Writer, argv ...string) error
	findQEMU func(ctx context.Context, binary string) (*qemu.Installation, error)
	mirror   func(ctx context.Context) (debian.Mirror, error)
	// userNamespace tries to make a user namespace.
	userNamespace func(ctx context.Context) error
}

func thisSystem() *system {
	s := &system{
		arch:          runtime.GOARCH,
		os:            runtime.GOOS,
		uid:           os.Getuid(),
		lookPath:      lookPath,
		run:           runProgram,
		exec:          execProgram,
		findQEMU:      qemu.Find,
		mirror:        debian.HostMirror,
		userNamespace: tryUserNamespace,
	}
	if u, err := user.Current(); err == nil {
		s.user = u.Username
	}
	return s
}

// lookPath also finds what lies in the administrator's directories, which an
// ordinary user's PATH often leaves out.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

func (s *system) has(program string) bool {
	_, err := s.lookPath(program)
	return err == nil
}

func (s *system) path(p string) string { return filepath.Join(s.root, p) }

func (s *system) exists(p string) bool {
	_, err := os.Stat(s.path(p))
	return err == nil
}

// release is what os-release(5) says of the distribution.
type release struct {
	ID, Like, Codename, Pretty string
}

func (s *system) release() release {
	data, err := os.ReadFile(s.path("/etc/os-release"))
	if err != nil {
		data, _ = os.ReadFile(s.path("/usr/lib/os-release"))
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			fields[k] = strings.Trim(v, `"'`)
		}
	}
	return release{ID: fields["ID"], Like: fields["ID_LIKE"], Codename: fields["VERSION_CODENAME"], Pretty: fields["PRETTY_NAME"]}
}

func runProgram(ctx context.Context, argv ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	var stderr tail
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	return out, explain(argv, err, &stderr)
}

func execProgram(ctx context.Context, w io.Writer, argv ...string) error {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	cmd.Stdin = os.Stdin // for sudo's question
	var last tail
	cmd.Stdout, cmd.Stderr = io.MultiWriter(w, &last), io.MultiWriter(w, &last)
	// An interrupted apt-get finishes what it must not leave half done.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	return explain(argv, cmd.Run(), &last)
}

// explain adds the last thing a failed program said.
func explain(argv []string, err error, said *tail) error {
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s := said.last(); s != "" {
			return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, s)
		}
	}
	return fmt.Errorf("%s: %w", strings.Join(argv, " "), err)
}

// tail keeps the end of what is written to it.
type tail struct{ buf []byte }

const tailSize = 4096

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailSize {
		t.buf = bytes.Clone(t.buf[len(t.buf)-tailSize:])
	}
	return len(p), nil
}

// last is the last line that names an error, else the last line.
func (t *tail) last() string {
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	for _, line := range lines {
		if rest, ok := strings.CutPrefix(line, "E: "); ok {
			return rest
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}
