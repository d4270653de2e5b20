package control

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// From yamux's specification: every message has a header of 12 bytes, which are
// version, type, flags (2), stream (4), length (4), big-endian.
const (
	yamuxHeaderSize = 12

	yamuxData   = 0
	yamuxWindow = 1
	yamuxPing   = 2
	yamuxGoAway = 3

	yamuxSYN      = 1
	yamuxAllFlags = 0xF
)

var errYamux = errors.New("guest broke the multiplexer's protocol")

// portConn is a session on the port, whose write may keep bytes back because
// more follow at once.
type portConn interface {
	Read(b []byte) (int, error)
	write(b []byte, more bool) (int, error)
	Close() error
}

// yamuxConn is what yamux runs on. It joins the header and the body that yamux
// writes apart, which would be two frames, and on the host checks what the
// guest sends.
type yamuxConn struct {
	conn  portConn
	guard *yamuxGuard // nil in the guest, which trusts the host

	mu  sync.Mutex
	err error // the first
}

func (c *yamuxConn) Read(b []byte) (int, error) {
	n, err := c.conn.Read(b)
	if c.guard != nil && n > 0 {
		if guardErr := c.guard.check(b[:n]); guardErr != nil {
			n, err = 0, guardErr
		}
	}
	c.note(err)
	return n, err
}

func (c *yamuxConn) Write(b []byte) (int, error) {
	bodyFollows := len(b) == yamuxHeaderSize && b[0] == 0 && b[1] == yamuxData && binary.BigEndian.Uint32(b[8:]) > 0
	n, err := c.conn.write(b, bodyFollows)
	c.note(err)
	return n, err
}

func (c *yamuxConn) Close() error { return c.conn.Close() }

func (c *yamuxConn) note(err error) {
	if err == nil {
		return
	}
	c.mu.Lock()
	if c.err == nil {
		c.err = err
	}
	c.mu.Unlock()
}

func (c *yamuxConn) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// yamuxGuard follows the messages of a guest and refuses what an honest one
// never sends and yamux would spend memory or goroutines on: streams opened
// towards the host, pings, windows beyond the agreed size.
type yamuxGuard struct {
	header [yamuxHeaderSize]byte
	have   int    // bytes of header
	body   uint32 // bytes of the body still to come
}

func (g *yamuxGuard) check(p []byte) error {
	for len(p) > 0 {
		if g.body > 0 {
			n := min(uint32(len(p)), g.body)
			p, g.body = p[n:], g.body-n
			continue
		}
		n := copy(g.header[g.have:], p)
		p, g.have = p[n:], g.have+n
		if g.have < yamuxHeaderSize {
			return nil
		}
		g.have = 0
		if err := g.checkHeader(); err != nil {
			return err
		}
	}
	return nil
}

func (g *yamuxGuard) checkHeader() error {
	version, kind := g.header[0], g.header[1]
	flags := binary.BigEndian.Uint16(g.header[2:])
	stream := binary.BigEndian.Uint32(g.header[4:])
	length := binary.BigEndian.Uint32(g.header[8:])
	switch {
	case version != 0:
		return fmt.Errorf("%w: version %d", errYamux, version)
	case flags&yamuxSYN != 0:
		return fmt.Errorf("%w: it opens a stream or pings", errYamux)
	case flags&^yamuxAllFlags != 0:
		return fmt.Errorf("%w: flags %#x", errYamux, flags)
	case kind == yamuxGoAway:
		return nil // yamux ends the session
	case kind != yamuxData && kind != yamuxWindow:
		return fmt.Errorf("%w: message type %d", errYamux, kind)
	case stream%2 == 0:
		return fmt.Errorf("%w: stream %d is not the host's", errYamux, stream)
	case length > streamWindow:
		return fmt.Errorf("%w: %d bytes at once", errYamux, length)
	}
	if kind == yamuxData {
		g.body = length
	}
	return nil
}
