package qemu

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
)

// consoleBuffer bounds what waits for a slow Config.Console. Beyond it, output
// is dropped: a guest that floods its console neither stops, nor fills memory.
const consoleBuffer = 256 << 10

// console copies the guest's output from the sockets to one writer.
type console struct {
	out     io.Writer
	readers sync.WaitGroup
	writer  sync.WaitGroup

	mu      sync.Mutex
	more    sync.Cond
	buf     []byte
	dropped int
	closed  bool // no reader is left
}

// startConsole takes over the sockets; they end when QEMU does.
func startConsole(out io.Writer, sockets ...net.Conn) *console {
	if out == nil {
		out = io.Discard
	}
	c := &console{out: out}
	c.more.L = &c.mu
	for _, s := range sockets {
		c.readers.Go(func() { c.read(s) })
	}
	c.writer.Go(c.write)
	return c
}

// wait returns when the sockets have ended and all is written.
func (c *console) wait() {
	c.readers.Wait()
	c.mu.Lock()
	c.closed = true
	c.more.Signal()
	c.mu.Unlock()
	c.writer.Wait()
}

func (c *console) read(s net.Conn) {
	defer s.Close()
	chunk := make([]byte, 8<<10)
	for {
		n, err := s.Read(chunk)
		c.put(chunk[:n])
		if err != nil {
			return
		}
	}
}

func (c *console) put(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fits := min(len(p), consoleBuffer-len(c.buf))
	if c.dropped > 0 {
		fits = 0 // the gap must come first
	}
	c.buf = append(c.buf, p[:fits]...)
	c.dropped += len(p) - fits
	c.more.Signal()
}

// take waits for output; it is empty when there will be no more.
func (c *console) take(reuse []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.buf) == 0 && c.dropped == 0 && !c.closed {
		c.more.Wait()
	}
	p := c.buf
	if c.dropped > 0 {
		p = fmt.Appendf(p, "\n[%d bytes of console output were dropped]\n", c.dropped)
	}
	c.buf, c.dropped = reuse[:0], 0
	return p
}

func (c *console) write() {
	var p []byte
	for {
		if p = c.take(p); len(p) == 0 {
			return
		}
		_, _ = c.out.Write(p)
	}
}

// Limits on what is kept of QEMU's own words: a guest can make it warn without
// end.
const (
	monitorLogLimit = 256 << 10
	monitorTail     = 2 << 10
)

// monitorLog passes QEMU's output on, up to a limit, and remembers its end.
type monitorLog struct {
	mu     sync.Mutex
	out    io.Writer
	passed int
	last   []byte
}

func newMonitorLog(out io.Writer) *monitorLog {
	if out == nil {
		out = io.Discard
	}
	return &monitorLog{out: out}
}

// Write never fails: QEMU must not be told off for talking.
func (l *monitorLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = append(l.last, p...)
	if over := len(l.last) - monitorTail; over > 0 {
		l.last = append(l.last[:0], l.last[over:]...)
	}
	l.pass(p)
	return len(p), nil
}

// note adds a line of the driver's own.
func (l *monitorLog) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass(fmt.Appendf(nil, format+"\n", args...))
}

func (l *monitorLog) pass(p []byte) {
	if l.passed >= monitorLogLimit {
		return
	}
	if l.passed += len(p); l.passed >= monitorLogLimit {
		p = append(p[:len(p):len(p)], "\n[more of this is not recorded]\n"...)
	}
	_, _ = l.out.Write(p)
}

// tail is the last few lines that QEMU printed, as one.
func (l *monitorLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.FieldsFunc(string(l.last), func(r rune) bool { return r == '\n' || r == '\r' })
	if n := len(lines); n > 4 {
		lines = lines[n-4:]
	}
	for i, s := range lines {
		if _, rest, ok := strings.Cut(s, ": "); ok && strings.HasPrefix(s, "qemu-system-") {
			lines[i] = rest
		}
	}
	return strings.Join(lines, "; ")
}
