package qemu

import (
	"fmt"
	"io"
	"net"
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
