//go:build linux

package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"

	"sbx/internal/control"
	"sbx/internal/guest/reap"
)

// exitFailed is the exit status of a session whose program could not even be
// looked for: no such user, no such directory, no process left.
const exitFailed = 125

// Limits of what one session may ask for.
const (
	maxEnv         = 1024      // variables
	maxEnvSize     = 128 << 10 // the kernel's limit of one string
	maxSessionName = 255       // of a persistent session
)

// session is one SSH session channel. Its fields belong to the goroutine of
// serve, except where noted.
type session struct {
	server *Server
	user   string
	ch     ssh.Channel
	env    []string
	pty    *ptyRequest // nil: none asked for
	ptyErr error       // why the terminal that was asked for can't be given
	jobs   sync.WaitGroup
	job    job // nil until a program was asked for
}

// job is what runs in a session.
type job interface {
	resize(w, h int)
	signal(syscall.Signal)
	// hangup is called when the channel has gone away. Idempotent.
	hangup()
}

// starter starts a session's program. It returns the job and what waits for
// its end.
type starter func() (j job, wait func())

func newSession(s *Server, user string, ch ssh.Channel) *session {
	return &session{server: s, user: user, ch: ch}
}

// serve handles the channel's requests until the channel is closed.
func (s *session) serve(requests <-chan *ssh.Request) {
	defer s.jobs.Wait()
	for r := range requests {
		switch r.Type {
		case "exec", "shell", "subsystem", control.RequestSpawn, control.RequestAttach:
			s.begin(r)
		default:
			r.Reply(s.adjust(r) == nil, nil)
		}
	}
	if s.job != nil {
		s.job.hangup()
	}
}

// begin starts the program that a request asks for, or refuses it.
func (s *session) begin(r *ssh.Request) {
	start, err := s.program(r)
	if err != nil {
		control.Refuse(s.ch, r, err)
		return
	}
	r.Reply(true, nil) // the reply precedes the output
	j, wait := start()
	s.job = j
	s.jobs.Go(func() {
		defer s.server.recovered("session")
		defer s.ch.Close()
		wait()
	})
}

var (
	errNoProgram = errors.New("no program runs in this session")
	errProgram   = errors.New("a session runs one program, and this one has it")
)

// adjust handles the requests that are about a program, before its start or
// while it runs.
func (s *session) adjust(r *ssh.Request) error {
	switch r.Type {
	case "env":
		var m struct{ Name, Value string }
		if err := ssh.Unmarshal(r.Payload, &m); err != nil {
			return err
		}
		return s.setenv(m.Name, m.Value)
	case control.RequestPty:
		if s.job != nil {
			return errProgram
		}
		s.pty, s.ptyErr = parsePty(r.Payload)
		return s.ptyErr
	case control.RequestWindowChange:
		w, h, err := parseWindow(r.Payload)
		if err != nil {
			return err
		}
		if s.job == nil {
			return errNoProgram
		}
		s.job.resize(w, h)
		return nil
	case control.RequestSignal:
		n, err := parseSignal(r.Payload)
		if err != nil {
			return err
		}
		if s.job == nil {
			return errNoProgram
		}
		s.job.signal(n)
		return nil
	}
	return fmt.Errorf("unknown request %q", r.Type)
}

func parseSignal(payload []byte) (syscall.Signal, error) {
	var m control.SignalRequest
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return 0, err
	}
	n := control.SignalNumber(m.Signal)
	if n == 0 {
		return 0, fmt.Errorf("unknown signal %q", m.Signal)
	}
	return syscall.Signal(n), nil
}

func (s *session) setenv(name, value string) error {
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00"):
		return fmt.Errorf("variable %q can't be in an environment", name)
	case len(name)+len(value) > maxEnvSize || len(s.env) >= maxEnv:
		return errors.New("the environment is too large")
	}
	s.env = append(s.env, name+"="+value)
	return nil
}

// program chooses what the session runs.
func (s *session) program(r *ssh.Request) (starter, error) {
	switch {
	case s.job != nil:
		return nil, errProgram
	case s.server.settings.Load() == nil:
		return nil, errors.New("the guest is not configured yet")
	case s.ptyErr != nil:
		return nil, s.ptyErr
	}
	switch r.Type {
	case control.RequestSpawn:
		m, err := parseSpawn(r.Payload)
		if err != nil {
			return nil, err
		}
		return s.run(request{argv: m.Argv, env: m.Env, dir: m.Dir, hangup: true}), nil
	case control.RequestAttach:
		m, err := parseAttach(r.Payload)
		if err != nil {
			return nil, err
		}
		if s.pty == nil {
			return nil, errors.New("attaching to a session needs a terminal")
		}
		return func() (job, func()) { return s.attach(m) }, nil
	case "shell":
		return s.run(request{shell: true, login: true}), nil
	}
	var text struct{ Value string }
	if err := ssh.Unmarshal(r.Payload, &text); err != nil {
		return nil, err
	}
	if r.Type == "exec" {
		return s.run(request{shell: true, argv: []string{text.Value}}), nil
	}
	if text.Value != "sftp" {
		return nil, fmt.Errorf("unknown subsystem %q", text.Value)
	}
	return s.run(request{self: true, argv: []string{SFTPName}}), nil
}

func parseSpawn(payload []byte) (control.Spawn, error) {
	var m control.Spawn
	if err := control.Decode(payload, &m); err != nil {
		return m, err
	}
	return m, accept(m)
}

func parseAttach(payload []byte) (control.Attach, error) {
	var m control.Attach
	if err := control.Decode(payload, &m); err != nil {
		return m, err
	}
	if m.Name == "" || len(m.Name) > maxSessionName {
		return m, fmt.Errorf("a session's name has 1 to %d bytes, not %d", maxSessionName, len(m.Name))
	}
	if m.Spawn == nil {
		return m, nil
	}
	return m, accept(*m.Spawn)
}

// accept checks what JSON can say and execve can't take.
func accept(m control.Spawn) error {
	switch {
	case len(m.Argv) == 0 || m.Argv[0] == "":
		return errors.New("no program given")
	case len(m.Env) > maxEnv:
		return errors.New("the environment is too large")
	case strings.Contains(m.Dir, "\x00"):
		return errors.New("the directory's name contains a zero byte")
	}
	for _, v := range slices.Concat(m.Argv, m.Env) {
		if strings.Contains(v, "\x00") {
			return errors.New("an argument or variable contains a zero byte")
		}
	}
	return nil
}

// run chooses a program that lives and dies with the channel.
func (s *session) run(r request) starter {
	return func() (job, func()) {
		r.env = append(s.env, r.env...)
		if s.pty != nil && !r.self {
			return s.runTerminal(r)
		}
		return s.runPipes(r)
	}
}

// failed is the job of a session whose program did not start.
type failed struct{}

func (failed) resize(int, int)       {}
func (failed) signal(syscall.Signal) {}
func (failed) hangup()               {}

// fail ends a session whose program did not start.
func (s *session) fail(err error) (job, func()) {
	return failed{}, func() {
		if s.pty != nil {
			fmt.Fprintf(s.ch, "sbx: %v\r\n", err)
		} else {
			fmt.Fprintf(s.ch.Stderr(), "sbx: %v\n", err)
		}
		control.SendExit(s.ch, control.Exit{Code: exitCode(err)})
	}
}

// exit tells the host how the program has ended, and closes the channel.
func (s *session) exit(p *reap.Process) {
	status, err := p.Wait()
	if err != nil {
		fmt.Fprintf(s.ch.Stderr(), "sbx: %v\n", err)
	}
	control.SendExit(s.ch, exitOf(status, err))
}

func exitOf(status syscall.WaitStatus, err error) control.Exit {
	switch {
	case err != nil:
		return control.Exit{Code: exitFailed}
	case !status.Signaled():
		return control.Exit{Code: status.ExitStatus()}
	}
	n := int(status.Signal())
	if name := control.SignalOf(n); name != "" {
		return control.Exit{Signal: name}
	}
	return control.Exit{Code: 128 + n} // a real-time signal
}
