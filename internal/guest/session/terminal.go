//go:build linux

package session

import (
	"os"
	"sync"
	"time"

	"sbx/internal/control"
	"sbx/internal/guest/reap"
	"sbx/internal/guest/screen"
)

const (
	historyLines = 1000     // above the screen, per persistent session
	recentSize   = 64 << 10 // raw output, for when the emulator has failed
	maxQueued    = 1 << 20  // output that waits for a slow terminal
)

// terminals are the persistent sessions by name.
type terminals struct {
	starting sync.Mutex // held while a program is started
	mu       sync.Mutex
	byName   map[string]*terminal
}

// terminal is a program on a pseudo terminal of its own, to which any number
// of the host's terminals are attached.
type terminal struct {
	name   string
	server *Server
	proc   *reap.Process
	master *os.File
	ended  chan struct{} // closed when all output has been taken

	replies chan []byte // answers of the emulator to the program

	mu         sync.Mutex
	screen     *screen.Screen // nil: it has failed
	recent     []byte
	clients    map[*client]struct{}
	active     *client // whose size it has
	lastOutput time.Time
}

// Sessions describes the persistent sessions.
func (s *Server) Sessions() []control.Session {
	s.terminals.mu.Lock()
	defer s.terminals.mu.Unlock()
	var list []control.Session
	for name, t := range s.terminals.byName {
		t.mu.Lock()
		list = append(list, control.Session{
			Name: name, PID: t.proc.PID(), Attached: len(t.clients), LastOutput: t.lastOutput,
		})
		t.mu.Unlock()
	}
	return list
}

func (ts *terminals) get(name string) *terminal {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.byName[name]
}

// open returns the session called name, which start begins if there is none.
func (ts *terminals) open(name string, start func() (*terminal, error)) (*terminal, error) {
	ts.starting.Lock()
	defer ts.starting.Unlock()
	if t := ts.get(name); t != nil {
		return t, nil
	}
	t, err := start()
	if err != nil {
		return nil, err
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.byName == nil {
		ts.byName = map[string]*terminal{}
	}
	ts.byName[name] = t
	go t.run()
	return t, nil
}

func (ts *terminals) remove(t *terminal) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.byName[t.name] == t {
		delete(ts.byName, t.name)
	}
}

// newTerminal starts a program that outlives the session that asked for it.
func (s *Server) newTerminal(name string, c command, p ptyRequest) (*terminal, error) {
	proc, master, err := s.startTerminal(c, p)
	if err != nil {
		return nil, err
	}
	t := &terminal{
		name: name, server: s, proc: proc, master: master,
		ended:   make(chan struct{}),
		replies: make(chan []byte, 16),
		screen:  screen.New(p.width, p.height, historyLines),
		clients: map[*client]struct{}{},
	}
	t.screen.Reply = t.reply
	return t, nil
}

// run takes the program's output until its end, however many are attached.
func (t *terminal) run() {
	defer t.server.recovered("persistent session")
	go t.answer()
	copyOut(t, t.master, t.proc)
	<-t.proc.Done()
	t.server.terminals.remove(t)
	t.master.Close()
	close(t.ended)
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.clients {
		c.wake()
	}
}

// reply queues an answer of the emulator. While a terminal is attached, that
// terminal answers. It is called from Write.
func (t *terminal) reply(p []byte) {
	if len(t.clients) > 0 {
		return
	}
	select {
	case t.replies <- p:
	default: // the program asks faster than it reads
	}
}

func (t *terminal) answer() {
	defer t.server.recovered("answers to a program")
	for {
		select {
		case p := <-t.replies:
			t.master.Write(p)
		case <-t.ended:
			return
		}
	}
}

// Write takes output of the program. It never blocks.
func (t *terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastOutput = time.Now()
	t.recent = append(t.recent, p...)
	if over := len(t.recent) - recentSize; over > recentSize {
		t.recent = append([]byte(nil), t.recent[over:]...)
	}
	t.emulate(func() { t.screen.Write(p) })
	chunk := append([]byte(nil), p...)
	for c := range t.clients {
		c.queue(chunk)
	}
	return len(p), nil
}

// emulate calls f, which uses the emulator. A panic in it costs the ability to
// repaint, nothing else. The lock is held.
func (t *terminal) emulate(f func()) {
	if t.screen == nil {
		return
	}
	defer func() {
		if r := recover(); r != nil {
			t.server.Log.Error("terminal emulator failed", "session", t.name, "panic", r)
			t.screen = nil
		}
	}()
	f()
}

// restore returns what shows the present screen. The lock is held.
func (t *terminal) restore(history bool) (b []byte) {
	t.emulate(func() { b = t.screen.Restore(history) })
	if t.screen == nil {
		b = append([]byte("\x18\x1b[0m\r\n"), t.recent[max(0, len(t.recent)-recentSize):]...)
	}
	return b
}

// attach adds a client, which gets the present screen first.
func (t *terminal) attach(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.clients[c] = struct{}{}
	t.adopt(c)
	c.queue(t.restore(true))
}

func (t *terminal) detach(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.clients, c)
	if t.active == c {
		t.active = nil
	}
}

// adopt gives the terminal the size of the client that is in use. The lock is
// held.
func (t *terminal) adopt(c *client) {
	t.active = c
	w, h := c.width, c.height
	t.emulate(func() {
		t.screen.Resize(w, h)
	})
	resizePty(t.master, w, h)
}

// use notes that somebody types at c.
func (t *terminal) use(c *client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, attached := t.clients[c]; attached && t.active != c {
		t.adopt(c)
	}
}
