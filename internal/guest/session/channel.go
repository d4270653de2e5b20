//go:build linux

package session

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sbx/internal/control"
	"sbx/internal/guest/reap"
)

// exitFailed is the exit status of a session whose program could not even be
// looked for: no such user, no such directory, no process left.
const exitFailed = 125

// Limits of what one session may ask for.
const (
	maxEnv     = 1024      // variables
	maxEnvSize = 128 << 10 // the kernel's limit of one string
)

// session is one SSH session channel. Its fields belong to the goroutine of
// serve, except where noted.
type session struct {
	server *Server
	user   string
	ch     ssh.Channel
	env    []string
	pty    *ptyRequest // nil: none asked for
	jobs   sync.WaitGroup
	job    job // nil until a program was asked for
	gone   chan struct{}
}

// job is what runs in a session.
type job interface {
	resize(w, h int)
	signal(syscall.Signal)
	// hangup is called when the channel has gone away. Idempotent.
	hangup()
}

func newSession(s *Server, user string, ch ssh.Channel) *session {
	return &session{server: s, user: user, ch: ch, gone: make(chan struct{})}
}

// serve handles the channel's requests until the channel is closed.
func (s *session) serve(requests <-chan *ssh.Request) {
	defer s.jobs.Wait()
	for r := range requests {
		ok := s.request(r)
		if r.WantReply {
			r.Reply(ok, nil)
		}
		if ok && s.job != nil {
			s.begin()
		}
	}
	close(s.gone)
	if s.job != nil {
		s.job.hangup()
	}
}

// starter is a job that has not begun. It begins after the reply to its
// request, so that the reply precedes the output.
type starter struct {
	start func() (job, func())
}

func (*starter) resize(int, int)       {}
func (*starter) signal(syscall.Signal) {}
func (*starter) hangup()               {}

// begin starts the job that the request has chosen, once.
func (s *session) begin() {
	st, ok := s.job.(*starter)
	if !ok {
		return
	}
	j, wait := st.start()
	s.job = j
	s.jobs.Go(func() {
		defer s.server.recovered("session")
		defer s.ch.Close()
		wait()
	})
}

func (s *session) request(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		var m struct{ Name, Value string }
		return ssh.Unmarshal(r.Payload, &m) == nil && s.setenv(m.Name, m.Value)
	case "pty-req":
		p, err := parsePty(r.Payload)
		if err != nil || s.job != nil {
			return false
		}
		s.pty = &p
		return true
	case "window-change":
		w, h, err := parseWindow(r.Payload)
		if err != nil || s.job == nil {
			return false
		}
		s.job.resize(w, h)
		return true
	case "signal":
		var m struct{ Name string }
		if ssh.Unmarshal(r.Payload, &m) != nil || s.job == nil {
			return false
		}
		n := unix.SignalNum("SIG" + m.Name)
		if n == 0 {
			return false
		}
		s.job.signal(n)
		return true
	case "exec", "shell", "subsystem", control.RequestSpawn, control.RequestAttach:
		if s.job != nil || s.server.settings.Load() == nil {
			return false
		}
		return s.program(r)
	}
	return false
}

func (s *session) setenv(name, value string) bool {
	if name == "" || strings.ContainsAny(name, "=\x00") || strings.Contains(value, "\x00") ||
		len(name)+len(value) > maxEnvSize || len(s.env) >= maxEnv {
		return false
	}
	s.env = append(s.env, name+"="+value)
	return true
}

// program chooses what the session runs.
func (s *session) program(r *ssh.Request) bool {
	var text struct{ Value string }
	switch r.Type {
	case "shell":
		s.run(request{shell: true, login: true})
		return true
	case "exec":
		if ssh.Unmarshal(r.Payload, &text) != nil {
			return false
		}
		s.run(request{shell: true, argv: []string{text.Value}})
		return true
	case "subsystem":
		if ssh.Unmarshal(r.Payload, &text) != nil || text.Value != "sftp" {
			return false
		}
		s.run(request{self: true, argv: []string{SFTPName}})
		return true
	case control.RequestSpawn:
		var m control.Spawn
		if decode(r.Payload, &m) != nil || !s.accept(m) {
			return false
		}
		s.run(request{argv: m.Argv, env: m.Env, dir: m.Dir, hangup: true})
		return true
	case control.RequestAttach:
		var m control.Attach
		if decode(r.Payload, &m) != nil || m.Name == "" || len(m.Name) > 255 || s.pty == nil {
			return false
		}
		if m.Spawn != nil && !s.accept(*m.Spawn) {
			return false
		}
		s.job = &starter{func() (job, func()) { return s.attach(m) }}
		return true
	}
	return false
}

// accept checks what JSON can say and execve can't take.
func (s *session) accept(m control.Spawn) bool {
	for _, v := range append(m.Argv[:len(m.Argv):len(m.Argv)], m.Env...) {
		if strings.Contains(v, "\x00") {
			return false
		}
	}
	return len(m.Argv) > 0 && m.Argv[0] != "" && len(m.Env) <= maxEnv && !strings.Contains(m.Dir, "\x00")
}

func decode(payload []byte, v any) error {
	if len(payload) > control.MaxMessage {
		return fmt.Errorf("message of %d bytes", len(payload))
	}
	return json.Unmarshal(payload, v)
}

// run chooses a program that lives and dies with the channel.
func (s *session) run(r request) {
	s.job = &starter{func() (job, func()) {
		r.env = append(s.env, r.env...)
		if s.pty != nil && !r.self {
			return s.runTerminal(r)
		}
		return s.runPipes(r)
	}}
}

// fail ends a session whose program did not start.
func (s *session) fail(err error) (job, func()) {
	return &starter{}, func() {
		if s.pty != nil {
			fmt.Fprintf(s.ch, "sbx: %v\r\n", err)
		} else {
			fmt.Fprintf(s.ch.Stderr(), "sbx: %v\n", err)
		}
		s.exitStatus(exitCode(err))
	}
}

func (s *session) exitStatus(code int) {
	s.ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(code)}))
}

// exit tells the host how the program has ended (RFC 4254, section 6.10).
func (s *session) exit(p *reap.Process) {
	status, err := p.Wait()
	switch {
	case err != nil:
		fmt.Fprintf(s.ch.Stderr(), "sbx: %v\n", err)
		s.exitStatus(exitFailed)
	case status.Signaled():
		s.ch.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}{strings.TrimPrefix(unix.SignalName(status.Signal()), "SIG"), status.CoreDump(), "", ""}))
	default:
		s.exitStatus(status.ExitStatus())
	}
}
