package control

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// NewHostPort joins the control port at the other end of conn as its host, in
// a new session, and returns that session's byte stream. It waits as long as
// ctx allows for a guest that has not booted yet. What is left on the port from
// earlier sessions, in either direction, is skipped.
//
// The stream owns conn; on an error conn is closed too. A guest that breaks the
// framing ends the stream with an error.
func NewHostPort(ctx context.Context, conn net.Conn) (net.Conn, error) {
	h, err := joinPort(ctx, conn)
	if err != nil {
		return nil, err
	}
	return h, nil
}

func joinPort(ctx context.Context, conn net.Conn) (*hostConn, error) {
	var id [8]byte
	rand.Read(id[:]) // never fails, see its documentation
	h := &hostConn{Conn: conn, in: newFrameReader(conn)}
	h.out = newFrameWriter(conn, binary.BigEndian.Uint64(id[:]))
	if err := h.join(ctx); err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("no answer from the guest on its control port: %w", err)
	}
	return h, nil
}

// hostConn is the host's end of a session. One Read and one Write may run at a
// time; Close ends both. Deadlines are the connection's.
type hostConn struct {
	net.Conn
	in  *frameReader
	mu  sync.Mutex // guards out and writes to Conn
	out *frameWriter
}

// join says HELLO until the guest acknowledges.
func (h *hostConn) join(ctx context.Context) error {
	interrupt := context.AfterFunc(ctx, func() { h.Conn.SetDeadline(time.Unix(1, 0)) })
	acknowledged := make(chan struct{})
	sent := make(chan error, 1)
	go func() { sent <- h.sayHello(acknowledged) }()
	err := h.awaitAck()
	close(acknowledged)
	if err != nil {
		h.Conn.Close()
	}
	if sendErr := <-sent; err == nil {
		err = sendErr
	}
	if !interrupt() {
		return ctx.Err()
	}
	return err
}

// sayHello sends the filler and HELLO, and repeats them for a port whose bytes
// are dropped while nobody in the guest has it open. On a port that keeps them
// the repetition is harmless: a Write that can't go on waits for the guest.
func (h *hostConn) sayHello(acknowledged <-chan struct{}) error {
	// The filler completes whatever frame the guest is waiting for the rest of.
	hello := header{kind: kindHello, session: h.out.session}.append(make([]byte, maxFrame))
	for pause := 500 * time.Millisecond; ; pause = min(2*pause, 4*time.Second) {
		if _, err := h.Conn.Write(hello); err != nil {
			return err
		}
		select {
		case <-acknowledged:
			return nil
		case <-time.After(pause):
		}
	}
}

// awaitAck looks at every byte for the ACK of this session: frames of earlier
// sessions may be cut, so that their lengths mean nothing.
func (h *hostConn) awaitAck() error {
	for {
		f, err := h.in.scan()
		if err != nil {
			return err
		}
		h.in.left = 0
		if f.kind == kindAck && f.session == h.out.session {
			return nil
		}
	}
}

func (h *hostConn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for h.in.left == 0 {
		f, err := h.in.next()
		switch {
		case err != nil:
			return 0, err
		case f.session != h.out.session:
			// Written by the guest before it knew of this session.
			if err := h.in.skip(); err != nil {
				return 0, err
			}
		case f.kind == kindBye:
			return 0, io.EOF
		}
	}
	return h.in.read(b)
}

func (h *hostConn) Write(b []byte) (int, error) { return h.write(b, false) }

func (h *hostConn) write(b []byte, more bool) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.out.write(b, more)
}

// byeTime bounds how long Close tries to tell the guest, which may be paused.
const byeTime = 20 * time.Millisecond

// Close ends the session and closes the connection. The guest is told, so that
// it ends its side now and not at the next session; if it doesn't listen, the
// next session's HELLO does that.
func (h *hostConn) Close() error {
	if h.mu.TryLock() {
		if h.Conn.SetWriteDeadline(time.Now().Add(byeTime)) == nil {
			h.out.control(kindBye)
		}
		h.mu.Unlock()
	}
	return h.Conn.Close()
}
