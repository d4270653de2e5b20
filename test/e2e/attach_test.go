package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

// screen is a person's terminal with sbx on it.
type screen struct {
	t    *testing.T
	tty  *os.File
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	emu *vt.Emulator
	raw bytes.Buffer
}

// open runs sbx on a new terminal of 80 by 24.
func (w *world) open(t *testing.T, args ...string) *screen {
	t.Helper()
	cmd := w.command(args...)
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Cols: 80, Rows: 24})
	if err != nil {
		t.Fatal(err)
	}
	pollable(t, tty)
	s := &screen{t: t, tty: tty, cmd: cmd, done: make(chan struct{}), emu: vt.NewEmulator(80, 24)}
	go s.read()
	t.Cleanup(func() { tty.Close(); cmd.Process.Kill() })
	return s
}

// pollable undoes what os.File.Fd did for an ioctl, so that closing the file
// ends a read that waits.
func pollable(t *testing.T, f *os.File) {
	t.Helper()
	raw, err := f.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { syscall.SetNonblock(int(fd), true) })
}

func (s *screen) read() {
	defer close(s.done)
	buf := make([]byte, 32<<10)
	for {
		n, err := s.tty.Read(buf)
		s.mu.Lock()
		s.emu.Write(buf[:n])
		s.raw.Write(buf[:n])
		s.mu.Unlock()
		if err != nil {
			s.cmd.Wait()
			return
		}
	}
}

func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emu.String()
}

func (s *screen) send(keys string) {
	s.t.Helper()
	if _, err := s.tty.WriteString(keys); err != nil {
		s.t.Fatal(err)
	}
}

// patience is how long something may take that no clock should decide.
const patience = 3 * time.Minute

// waitFor returns when the screen shows text.
func (s *screen) waitFor(text string) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for !strings.Contains(s.text(), text) {
		if time.Now().After(deadline) {
			s.t.Fatalf("the screen never showed %q, but:\n%s", text, s.text())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// waitEnd returns sbx's exit code.
func (s *screen) waitEnd() int {
	s.t.Helper()
	select {
	case <-s.done:
		return s.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		s.t.Fatalf("sbx did not end; its screen:\n%s", s.text())
		return -1
	}
}

func TestAgentSessionOutlivesTheTerminal(t *testing.T) {
	w := newWorld(t)
	folder := w.folder("project")

	first := w.open(t, "run", "--name", "web", "shell", folder)
	first.waitFor("$")
	first.send("stty size; echo mark-$((40+2))\r")
	first.waitFor("24 80")
	first.waitFor("mark-42")

	// The program follows the terminal's size.
	pty.Setsize(first.tty, &pty.Winsize{Cols: 100, Rows: 30})
	pollable(t, first.tty)
	first.mu.Lock()
	first.emu.Resize(100, 30)
	first.mu.Unlock()
	first.send("clear; stty size\r")
	first.waitFor("30 100")

	// A job goes on while no terminal is there, closed without a word.
	first.send("tty; echo mark-$((50+1)); (while sleep 1; do date +%s > beat; done) &\r")
	first.waitFor("mark-51")
	first.tty.Close()
	select {
	case <-first.done:
	case <-time.After(patience):
		t.Fatal("sbx did not notice that its terminal was closed")
	}

	second := w.open(t, "run", "--name", "web")
	second.waitFor("mark-51") // the screen as it was
	second.send("jobs; echo mark-$((60+1))\r")
	second.waitFor("mark-61")
	second.waitFor("Running")

	// Detached by the keys, attached from a third terminal, ended.
	second.send("\x10\x11")
	if code := second.waitEnd(); code != 0 {
		t.Errorf("detaching exits with %d", code)
	}
	if !strings.Contains(second.text(), "sbx run --name web") {
		t.Errorf("detaching does not say how to come back:\n%s", second.text())
	}
	third := w.open(t, "run", "--name", "web")
	third.waitFor("mark-61")
	third.send("kill %1; exit 5\r")
	if code := third.waitEnd(); code != 5 {
		t.Errorf("the agent's exit code arrived as %d, want 5", code)
	}
}

func TestRunDetached(t *testing.T) {
	w := newWorld(t)
	if got := w.sbx("run", "-d", "--name", "bg", "shell", w.folder("project")); got != "bg\n" {
		t.Errorf("run -d prints %q", got)
	}
	w.sbx("run", "-d", "--name", "bg") // again: the session is there
	s := w.open(t, "run", "--name", "bg")
	s.waitFor("$")
	s.send("exit 6\r")
	if code := s.waitEnd(); code != 6 {
		t.Errorf("exit code %d, want 6", code)
	}
}

func TestExecOnATerminal(t *testing.T) {
	w := newWorld(t)
	w.sbx("create", "--name", "tty", "shell")
	s := w.open(t, "exec", "-it", "tty", "bash", "--norc")
	s.waitFor("$")
	s.send("trap 'echo caught-$((1+1))' INT; stty size\r")
	s.waitFor("24 80")
	s.send("\x03") // an interrupt goes to the guest, not to sbx
	s.waitFor("caught-2")
	s.send("exit 9\r")
	if code := s.waitEnd(); code != 9 {
		t.Errorf("exit code %d, want 9", code)
	}

	// The guest can't write to the user's clipboard (OSC 52).
	c := w.open(t, "exec", "-it", "tty", "sh", "-c", `printf '\033]52;c;aGVsbG8=\007'; echo done-$((3+4))`)
	c.waitFor("done-7")
	c.waitEnd()
	if bytes.Contains(c.raw.Bytes(), []byte("\x1b]52")) {
		t.Error("a clipboard sequence of the guest reached the terminal")
	}
}
