//go:build linux

package session

import (
	"fmt"
	"sync"
	"syscall"

	"sbx/internal/control"
)

// attach joins the session's terminal to a persistent session.
func (s *session) attach(m control.Attach) (job, func()) {
	t, err := s.server.terminals.open(m.Name, func() (*terminal, error) {
		if m.Spawn == nil {
			return nil, fmt.Errorf("no session %q is running", m.Name)
		}
		r := request{argv: m.Spawn.Argv, env: append(s.env, m.Spawn.Env...), dir: m.Spawn.Dir}
		c, err := s.server.resolve(s.user, r, s.pty.term)
		if err != nil {
			return nil, err
		}
		return s.server.newTerminal(m.Name, c, *s.pty)
	})
	if err != nil {
		return s.fail(err)
	}
	c := &client{
		terminal: t, session: s, width: s.pty.width, height: s.pty.height,
		ready: make(chan struct{}, 1), gone: make(chan struct{}),
	}
	t.attach(c)
	return c, c.run
}

// client is one of the host's terminals, attached to a persistent session.
type client struct {
	terminal *terminal
	session  *session
	once     sync.Once
	gone     chan struct{} // closed when the channel has gone away
	ready    chan struct{} // there may be something to write

	// Guarded by terminal.mu.
	width, height int
	waiting       [][]byte
	size          int  // of waiting
	lost          bool // some output was dropped: repaint
}

// queue adds output. What a terminal does not take in time is dropped; it is
// repainted when it takes bytes again. The terminal's lock is held.
func (c *client) queue(p []byte) {
	if c.lost {
		return
	}
	if c.size+len(p) > maxQueued && c.size > 0 {
		c.waiting, c.size, c.lost = nil, 0, true
	} else {
		c.waiting, c.size = append(c.waiting, p), c.size+len(p)
	}
	c.wake()
}

func (c *client) wake() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// next takes what is to be written now; nil: nothing.
func (c *client) next() []byte {
	t := c.terminal
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.lost {
		c.lost = false
		return t.restore(false)
	}
	if len(c.waiting) == 0 {
		return nil
	}
	p := c.waiting[0]
	c.waiting, c.size = c.waiting[1:], c.size-len(p)
	return p
}

// run writes to the host's terminal until it or the program goes away.
func (c *client) run() {
	defer c.hangup()
	go func() {
		defer c.session.server.recovered("terminal input")
		copyIn(c, c.session.ch)
	}()
	for {
		for p := c.next(); p != nil; p = c.next() {
			if _, err := c.session.ch.Write(p); err != nil {
				return
			}
		}
		select {
		case <-c.ready:
			continue
		case <-c.gone:
			return
		case <-c.terminal.ended:
		}
		// Nothing is added any more; what came last may still wait.
		for p := c.next(); p != nil; p = c.next() {
			if _, err := c.session.ch.Write(p); err != nil {
				return
			}
		}
		c.session.ch.CloseWrite()
		c.session.exit(c.terminal.proc)
		return
	}
}

// Write is the input that comes from the host's terminal.
func (c *client) Write(p []byte) (int, error) {
	c.terminal.use(c)
	return c.terminal.master.Write(p)
}

func (c *client) resize(w, h int) {
	t := c.terminal
	t.mu.Lock()
	defer t.mu.Unlock()
	c.width, c.height = w, h
	if _, attached := t.clients[c]; attached {
		t.adopt(c)
	}
}

func (c *client) signal(s syscall.Signal) { c.terminal.proc.SignalGroup(s) }

// hangup detaches; the program goes on.
func (c *client) hangup() {
	c.once.Do(func() {
		c.terminal.detach(c)
		close(c.gone)
	})
}
