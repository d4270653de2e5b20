//go:build linux

package session

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sbx/internal/control"
	"sbx/internal/guest/account"
	"sbx/internal/guest/reap"
)

// request is a program that a session wants.
type request struct {
	argv  []string
	env   []string
	dir   string
	shell bool // argv[0], if any, is a command line for the user's shell
	login bool // the shell is a login shell
	self  bool // this program itself, under the name argv[0]
	// hangup: the program gets SIGHUP when its channel goes away, as if it
	// had a terminal. sshd, whose habits the standard requests keep, closes
	// the pipes only.
	hangup bool
}

// command is a request made concrete.
type command struct {
	path string
	argv []string
	env  []string
	dir  string
	user account.User
}

// errNotFound and errNotExecutable select the exit status.
var (
	errNotFound      = errors.New("command not found")
	errNotExecutable = errors.New("cannot execute")
)

func exitCode(err error) int {
	switch {
	case errors.Is(err, errNotFound):
		return control.ExitNotFound
	case errors.Is(err, errNotExecutable):
		return control.ExitNotExecutable
	}
	return exitFailed
}

// resolve finds the user, the directory, the environment and the file.
func (s *Server) resolve(userName string, r request, term string) (command, error) {
	set := s.settings.Load()
	if set == nil {
		return command{}, errors.New("the guest is not configured yet")
	}
	if userName == "" {
		userName = set.User
	}
	u, err := account.Lookup("/", userName)
	if err != nil {
		return command{}, err
	}
	c := command{argv: r.argv, user: u, dir: r.dir, env: environment(u, term, set.Env, r.env)}
	if c.dir == "" {
		c.dir = defaultDir(u, set.Workdir, r)
	}
	if st, err := os.Stat(c.dir); err != nil || !st.IsDir() {
		return command{}, fmt.Errorf("directory %q does not exist in the guest", c.dir)
	}
	switch {
	case r.self:
		c.path = "/proc/self/exe"
	case r.shell:
		c.path = u.Shell
		c.argv = shellArgv(u.Shell, r)
	default:
		c.path, err = lookPath(r.argv[0], value(c.env, "PATH"), c.dir)
	}
	return c, err
}

// defaultDir is where a program starts that does not say: in the workspace,
// but an sftp client and a user whose own place is elsewhere start at home.
func defaultDir(u account.User, workdir string, r request) string {
	if workdir != "" && !r.self {
		return workdir
	}
	if st, err := os.Stat(u.Home); err == nil && st.IsDir() {
		return u.Home
	}
	return "/"
}

func shellArgv(shell string, r request) []string {
	name := filepath.Base(shell)
	if r.login {
		name = "-" + name
	}
	if len(r.argv) == 0 {
		return []string{name}
	}
	return []string{name, "-c", r.argv[0]}
}

// environment is the environment of a session: the guest's defaults, then the
// sandbox's, then the session's. The last of a name wins.
func environment(u account.User, term string, more ...[]string) []string {
	env := []string{
		"HOME=" + u.Home,
		"USER=" + u.Name,
		"LOGNAME=" + u.Name,
		"SHELL=" + u.Shell,
		"PATH=" + u.Home + "/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"LANG=en_US.UTF-8",
		"BASH_ENV=/etc/sandbox-persistent.sh",
	}
	if run := fmt.Sprintf("/run/user/%d", u.UID); isDir(run) {
		env = append(env, "XDG_RUNTIME_DIR="+run)
	}
	if term != "" {
		env = append(env, "TERM="+term)
	}
	index := make(map[string]int, len(env))
	for i, kv := range env {
		index[key(kv)] = i
	}
	for _, list := range more {
		for _, kv := range list {
			if i, ok := index[key(kv)]; ok {
				env[i] = kv
				continue
			}
			index[key(kv)] = len(env)
			env = append(env, kv)
		}
	}
	return env
}

func key(kv string) string {
	k, _, _ := strings.Cut(kv, "=")
	return k
}

func value(env []string, name string) string {
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == name {
			return v
		}
	}
	return ""
}

func isDir(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.IsDir()
}

// lookPath finds a program the way a POSIX shell does. A name with a slash is
// relative to dir.
func lookPath(name, path, dir string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			// filepath.Join would clean "link/../x" wrongly.
			name = dir + "/" + name
		}
		return name, executable(name)
	}
	found := fmt.Errorf("%s: %w", name, errNotFound)
	for d := range strings.SplitSeq(path, ":") {
		if d == "" {
			d = dir
		}
		file := d + "/" + name
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, errNotExecutable) && !isDir(file) {
			found = err
		}
	}
	return "", found
}

func executable(file string) error {
	st, err := os.Stat(file)
	switch {
	case err != nil && (errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)):
		return fmt.Errorf("%s: %w", file, errNotFound)
	case err != nil:
		return fmt.Errorf("%w %s: %w", errNotExecutable, file, err)
	case st.IsDir():
		return fmt.Errorf("%w %s: is a directory", errNotExecutable, file)
	case st.Mode()&0o111 == 0:
		return fmt.Errorf("%w %s: permission denied", errNotExecutable, file)
	}
	return nil
}

// start runs the command with the given standard files; tty is its
// controlling terminal if it is the child's standard input.
func (s *Server) start(c command, files []*os.File, tty bool) (*reap.Process, error) {
	sys := &syscall.SysProcAttr{Setsid: true, Setctty: tty, Credential: credential(c.user)}
	if dir := s.settings.Load().Cgroup; dir != "" {
		f, err := os.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", c.argv[0], err)
		}
		defer f.Close()
		sys.UseCgroupFD, sys.CgroupFD = true, int(f.Fd())
	}
	attr := &os.ProcAttr{Dir: c.dir, Env: c.env, Files: files, Sys: sys}
	p, err := s.Reaper.Start(c.path, c.argv, attr)
	if errors.Is(err, syscall.ENOEXEC) {
		// A script without "#!" is run by sh, as execvp(3) does.
		argv := append([]string{"sh", c.path}, c.argv[1:]...)
		p, err = s.Reaper.Start("/bin/sh", argv, attr)
	}
	return p, explain(c, err)
}

// explain says what an error of clone, chdir or execve means.
func explain(c command, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EAGAIN):
		return fmt.Errorf("start %s: too many processes in the sandbox", c.argv[0])
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("%w %s: its interpreter is missing", errNotExecutable, c.path)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w %s in %s as %s: permission denied", errNotExecutable, c.path, c.dir, c.user.Name)
	}
	return fmt.Errorf("%w %s: %w", errNotExecutable, c.path, err)
}

// credential is nil when there is nothing to change and no right to.
func credential(u account.User) *syscall.Credential {
	if os.Geteuid() != 0 && int(u.UID) == os.Geteuid() {
		return nil
	}
	return &syscall.Credential{Uid: u.UID, Gid: u.GID, Groups: append([]uint32{u.GID}, u.Groups...)}
}
