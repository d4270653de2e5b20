// Package qmp speaks the QEMU Machine Protocol, QEMU's control interface: one
// JSON object a line in each direction. See QEMU's docs/interop/qmp-spec.
//
// Start with [Connect]. The peer is not trusted: a guest that took over QEMU
// writes here what it likes, so lines are bounded and nothing waits for it
// except under the caller's context.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// MaxLine bounds one message from QEMU, in bytes. The largest that we ask for
// is a few KiB.
const MaxLine = 1 << 20

// ErrClosed is returned when the connection has ended.
var ErrClosed = errors.New("qmp connection is closed")

// Error is QEMU's refusal of a command.
type Error struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

func (e *Error) Error() string { return e.Desc }

// Event is something that happened by itself.
type Event struct {
	Name string
	Data json.RawMessage
}

// Client is one connection. Its methods are safe for concurrent use.
type Client struct {
	conn net.Conn
	done chan struct{} // closed when the reader has ended

	writing sync.Mutex

	mu      sync.Mutex
	err     error // why the connection ended
	broken  error // the violation of the protocol that ended it
	next    uint64
	pending map[uint64]chan<- message
}

// message is everything that QEMU can send.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	ID     *uint64         `json:"id"`
	Return json.RawMessage `json:"return"`
	Error  *Error          `json:"error"`
	Event  string          `json:"event"`
	Data   json.RawMessage `json:"data"`
}

// Connect takes conn over and negotiates. It calls onEvent, from the one
// goroutine that reads, for every event from then on; onEvent must not block
// and must not execute commands. When Connect fails, conn is closed.
func Connect(ctx context.Context, conn net.Conn, onEvent func(Event)) (*Client, error) {
	c := &Client{
		conn:    conn,
		done:    make(chan struct{}),
		pending: make(map[uint64]chan<- message),
	}
	greeting := make(chan struct{})
	go c.read(onEvent, greeting)

	err := c.negotiate(ctx, greeting)
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("negotiate with qemu: %w", err)
	}
	return c, nil
}

func (c *Client) negotiate(ctx context.Context, greeting <-chan struct{}) error {
	select {
	case <-greeting:
	case <-c.done:
		return c.cause()
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.Execute(ctx, "qmp_capabilities", nil, nil)
}

// Execute runs a command and stores what it returns in reply, unless that is
// nil. A refusal is an [*Error]; the connection's end is [ErrClosed]. When ctx
// ends first, the command may still take effect.
func (c *Client) Execute(ctx context.Context, command string, args, reply any) error {
	answer := make(chan message, 1)
	id, err := c.expect(answer)
	if err != nil {
		return err
	}
	defer c.forget(id)

	if err := c.send(ctx, command, args, id); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case m := <-answer:
		return finish(command, m, reply)
	case <-c.done:
	case <-ctx.Done():
		return fmt.Errorf("qmp %s: %w", command, ctx.Err())
	}
	select { // the answer may have been the last thing read
	case m := <-answer:
		return finish(command, m, reply)
	default:
		return fmt.Errorf("qmp %s: %w", command, c.cause())
	}
}

func finish(command string, m message, reply any) error {
	if m.Error != nil {
		return fmt.Errorf("qmp %s: %w", command, m.Error)
	}
	if reply == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, reply); err != nil {
		return fmt.Errorf("qmp %s: read the reply: %w", command, err)
	}
	return nil
}

func (c *Client) send(ctx context.Context, command string, args any, id uint64) error {
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        uint64 `json:"id"`
	}{command, args, id})
	if err != nil {
		return err
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.write(ctx, append(line, '\n'))
}

// write sends line unless ctx ends first: a QEMU that hangs reads nothing. A
// line cut short would spoil the stream, so the connection ends with it.
func (c *Client) write(ctx context.Context, line []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		_ = c.conn.SetWriteDeadline(time.Unix(1, 0))
		close(interrupted)
	})
	n, err := c.conn.Write(line)
	if !stop() {
		<-interrupted
		_ = c.conn.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return nil
	case n > 0:
		_ = c.conn.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return errors.Join(ErrClosed, err)
}

func (c *Client) expect(answer chan<- message) (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.next++
	c.pending[c.next] = answer
	return c.next, nil
}

func (c *Client) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// Done is closed when the connection has ended, from either side, and the last
// event has been delivered.
func (c *Client) Done() <-chan struct{} { return c.done }

// Violation is what the peer did against the protocol, for which the connection
// was ended; nil while there is none, and after any other end.
func (c *Client) Violation() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.broken
}

// Close ends the connection and waits for the reader. It is idempotent.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (c *Client) cause() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// read is the reader's goroutine; Close, or the end of conn, ends it.
func (c *Client) read(onEvent func(Event), greeting chan<- struct{}) {
	err := c.readAll(onEvent, greeting)
	_ = c.conn.Close()
	c.mu.Lock()
	c.broken = err
	c.err = errors.Join(ErrClosed, err)
	c.mu.Unlock()
	close(c.done)
}

// readAll returns a violation of the protocol, or nil at the connection's end.
func (c *Client) readAll(onEvent func(Event), greeting chan<- struct{}) error {
	r := bufio.NewReaderSize(c.conn, 4096)
	for {
		line, err := readLine(r)
		if errors.Is(err, errTooLong) {
			return err
		}
		if err != nil {
			return nil // an end, if not always a tidy one
		}
		m, err := parse(line)
		if err != nil {
			return err
		}
		switch {
		case m.QMP != nil && greeting != nil:
			close(greeting)
			greeting = nil
		case m.Event != "":
			onEvent(Event{m.Event, m.Data})
		case m.ID != nil:
			c.deliver(*m.ID, m)
		}
	}
}

func (c *Client) deliver(id uint64, m message) {
	c.mu.Lock()
	answer := c.pending[id]
	delete(c.pending, id)
	c.mu.Unlock()
	if answer != nil {
		answer <- m // has room for one, and there is only one
	}
}

func parse(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("malformed message: %w", err)
	}
	return m, nil
}

var errTooLong = fmt.Errorf("message of more than %d bytes", MaxLine)

// readLine returns the next line, at most MaxLine long. It grows its buffer
// only by what has arrived.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(line)+len(part) > MaxLine {
			return nil, errTooLong
		}
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}
