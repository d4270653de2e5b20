//go:build linux

package session

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"sbx/internal/control"
)

// viewer is a terminal of the host in a test.
type viewer struct {
	t      *testing.T
	input  *io.PipeWriter
	detach chan struct{}
	done   chan struct{}
	exit   control.Exit
	err    error

	mu   sync.Mutex
	cond *sync.Cond
	seen bytes.Buffer
}

func (v *viewer) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen.Write(p)
	v.cond.Broadcast()
	return len(p), nil
}

// await waits until the terminal has received text.
func (v *viewer) await(text string) {
	v.t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for !strings.Contains(v.seen.String(), text) {
		select {
		case <-v.done:
			v.t.Fatalf("ended (%v) without %q in %q", v.err, text, v.seen.String())
		default:
		}
		v.cond.Wait()
	}
}

func (f *fixture) attach(a control.Attach, w, h int) *viewer {
	v := &viewer{t: f.t, detach: make(chan struct{}), done: make(chan struct{})}
	v.cond = sync.NewCond(&v.mu)
	var in *io.PipeReader
	in, v.input = io.Pipe()
	client := f.dial("")
	go func() {
		v.exit, v.err = client.Attach(context.Background(), a, control.IO{
			Stdin: in, Stdout: v, Detach: v.detach,
			Terminal: &control.Terminal{Term: "xterm", Width: w, Height: h},
		})
		close(v.done)
		v.mu.Lock()
		v.cond.Broadcast()
		v.mu.Unlock()
	}()
	return v
}

func (v *viewer) leave() {
	close(v.detach)
	<-v.done
	if !errors.Is(v.err, control.ErrDetached) {
		v.t.Errorf("detached with %v", v.err)
	}
}

func TestPersistentSession(t *testing.T) {
	f := serve(t)
	spawn := &control.Spawn{Argv: []string{"sh", "-c", `echo first; while read x; do echo "got $x $(stty size)"; [ "$x" = quit ] && exit 9; done`}}

	a := f.attach(control.Attach{Name: "agent", Spawn: spawn}, 80, 24)
	a.await("first")
	io.WriteString(a.input, "one\n")
	a.await("got one 24 80")
	a.leave()

	if s := f.server.Sessions(); len(s) != 1 || s[0].Name != "agent" || s[0].LastOutput.IsZero() {
		t.Errorf("sessions: %+v", s)
	}
	b := f.attach(control.Attach{Name: "agent"}, 100, 30)
	b.await("got one 24 80") // restored
	c := f.attach(control.Attach{Name: "agent", Spawn: spawn}, 60, 20)
	c.await("got one")
	io.WriteString(b.input, "two\n")
	c.await("got two 30 100")
	b.await("got two 30 100")
	io.WriteString(c.input, "quit\n")
	<-b.done
	<-c.done
	if b.exit.Code != 9 || c.exit.Code != 9 || b.err != nil || c.err != nil {
		t.Errorf("exits: %+v %v, %+v %v", b.exit, b.err, c.exit, c.err)
	}

	d := f.attach(control.Attach{Name: "agent"}, 80, 24)
	<-d.done
	if d.exit.Code != 125 || !strings.Contains(d.seen.String(), "no session") {
		t.Errorf("attached to nothing: %+v %q", d.exit, d.seen.String())
	}
	e := f.attach(control.Attach{Name: "agent", Spawn: &control.Spawn{Argv: []string{"echo", "again"}}}, 80, 24)
	<-e.done
	if !strings.Contains(e.seen.String(), "again") || strings.Contains(e.seen.String(), "got") {
		t.Errorf("a new session: %q", e.seen.String())
	}
}

func TestQuestionsAreAnsweredWhileNobodyIsAttached(t *testing.T) {
	f := serve(t)
	// The program asks for the cursor's position after the terminal has left.
	a := f.attach(control.Attach{Name: "q", Spawn: &control.Spawn{Argv: []string{"sh", "-c",
		`stty raw -echo; printf ready; dd bs=1 count=2 2>/dev/null; printf '\033[6n'; dd bs=1 count=6 2>/dev/null | od -c; stty sane; read x`}}}, 80, 24)
	a.await("ready")
	tty := f.server.terminals.get("q")
	a.leave()
	until(tty, func() bool { return len(tty.clients) == 0 })
	tty.master.Write([]byte("go"))
	until(tty, func() bool { return bytes.Contains(tty.recent, []byte("R")) })
	b := f.attach(control.Attach{Name: "q"}, 80, 24)
	b.await("033   [")
	io.WriteString(b.input, "\n")
	<-b.done
}

// until polls for what nothing announces.
func until(t *terminal, condition func() bool) {
	for {
		t.mu.Lock()
		ok := condition()
		t.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestSlowTerminalIsRepaintedInsteadOfWaitedFor(t *testing.T) {
	f := serve(t)
	fast := f.attach(control.Attach{Name: "s", Spawn: &control.Spawn{Argv: []string{"sh", "-c", "read x; head -c 6000000 /dev/zero | tr '\\0' x; echo; echo finished; read x"}}}, 80, 24)
	tty := func() *terminal { return f.server.terminals.get("s") }
	io.WriteString(fast.input, "go\n")
	fast.await("finished")
	slow := &client{terminal: tty(), ready: make(chan struct{}, 1), gone: make(chan struct{}), width: 80, height: 24}
	tty().attach(slow)
	for range 20 {
		tty().Write(make([]byte, 100<<10))
	}
	if tty().Write([]byte("latest")); !slow.lost || slow.size > maxQueued {
		t.Errorf("lost %v with %d bytes waiting", slow.lost, slow.size)
	}
	if p := slow.next(); !bytes.Contains(p, []byte("latest")) || !bytes.Contains(p, []byte("finished")) {
		t.Errorf("repainted with %q", p)
	}
	slow.hangup()
	io.WriteString(fast.input, "\n")
	<-fast.done
}

func TestEmulatorFailureIsContained(t *testing.T) {
	f := serve(t)
	v := f.attach(control.Attach{Name: "p", Spawn: &control.Spawn{Argv: []string{"sh", "-c", "echo before; read x"}}}, 80, 24)
	v.await("before")
	tty := f.server.terminals.get("p")
	tty.mu.Lock()
	tty.emulate(func() { panic("bug") })
	raw := tty.restore(true)
	tty.mu.Unlock()
	if tty.screen != nil || !bytes.Contains(raw, []byte("before")) {
		t.Errorf("after a panic: %q", raw)
	}
	io.WriteString(v.input, "\n")
	<-v.done
}
