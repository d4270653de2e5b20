package control

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"sbx/internal/term"
)

// ErrRefused is wrapped by the error of a request that the guest answered with
// a refusal; its text is the guest's reason, made printable.
var ErrRefused = errors.New("the sandbox refused")

// Client is the host's end of SSH on one stream. Its methods are safe for
// concurrent use.
//
// A cancelled context closes the whole client, because SSH has no way to take
// back one request: open another stream for the next, it costs little.
type Client struct {
	conn    net.Conn
	ssh     ssh.Conn
	serving sync.WaitGroup
	dead    chan struct{} // closed when the connection is
}

// NewClient speaks SSH on conn, one stream to the guest, for programs that run
// as user; empty means the sandbox's user. The client owns conn; on an error
// conn is closed.
//
// Neither side proves who it is: nobody but this sandbox's machine is at the
// other end of its port, and nobody but the host's user reaches the socket at
// this end. A host key could prove nothing, since root in the guest can read
// it, and a client's key would give the guest nothing that the port has not
// given already. SSH is here for its channels, not for its secrecy, so there is
// no encryption either (plain.go); plain ssh clients get all of SSH.
func NewClient(ctx context.Context, conn net.Conn, user string) (*Client, error) {
	return newClient(ctx, conn, user, dialPlain)
}

// dialer begins SSH on a connection.
type dialer func(conn net.Conn, user string) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error)

func newClient(ctx context.Context, conn net.Conn, user string, dial dialer) (*Client, error) {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	sc, channels, requests, err := dial(conn, user)
	if !stop() {
		conn.Close()
		return nil, context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, notBegun{fmt.Errorf("%w: %w", ErrLost, err)}
	}
	c := &Client{conn: conn, ssh: sc, dead: make(chan struct{})}
	c.serving.Add(3)
	go c.watch()
	go c.refuseChannels(channels)
	go c.refuseRequests(requests)
	return c, nil
}

// Done is closed when the connection is: the client is of no use any more.
func (c *Client) Done() <-chan struct{} { return c.dead }

// Close ends everything that goes on over the client.
func (c *Client) Close() error {
	err := c.conn.Close()
	c.serving.Wait()
	return err
}

func (c *Client) watch() {
	defer c.serving.Done()
	c.ssh.Wait()
	close(c.dead)
}

// openSession opens a session channel. It does not wait for x/crypto when the
// connection dies, because that waits for ever if it dies at the wrong moment.
func (c *Client) openSession() (ssh.Channel, <-chan *ssh.Request, error) {
	type result struct {
		channel  ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	opened := make(chan result, 1)
	go func() {
		channel, requests, err := c.ssh.OpenChannel("session", nil)
		opened <- result{channel, requests, err}
	}()
	select {
	case <-c.dead:
		return nil, nil, ErrLost
	case r := <-opened:
		if refusal := (*ssh.OpenChannelError)(nil); errors.As(r.err, &refusal) {
			return nil, nil, fmt.Errorf("%w: %s", ErrRefused, reason([]byte(refusal.Message)))
		} else if r.err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrLost, r.err)
		}
		return r.channel, r.requests, nil
	}
}

// refuseChannels lets the guest open nothing towards the host.
func (c *Client) refuseChannels(channels <-chan ssh.NewChannel) {
	defer c.serving.Done()
	for ch := range channels {
		if ch.Reject(ssh.Prohibited, "") != nil {
			c.conn.Close()
		}
	}
}

func (c *Client) refuseRequests(requests <-chan *ssh.Request) {
	defer c.serving.Done()
	for r := range requests {
		if r.Reply(false, nil) != nil {
			c.conn.Close()
		}
	}
}

// Configure makes a booted, empty machine one sandbox.
func (c *Client) Configure(ctx context.Context, v Configure) error {
	return c.request(ctx, RequestConfigure, v, nil)
}

// Clock sets the guest's clock and returns what it shows then.
func (c *Client) Clock(ctx context.Context, v Clock) (Clock, error) {
	var answer Clock
	if err := c.request(ctx, RequestClock, v, &answer); err != nil {
		return Clock{}, err
	}
	return answer, answer.validate()
}

// Stats asks the guest for its statistics. They are the guest's word, but their
// text is short and printable and their numbers are possible ones.
func (c *Client) Stats(ctx context.Context) (Stats, error) {
	var answer Stats
	if err := c.request(ctx, RequestStats, struct{}{}, &answer); err != nil {
		return Stats{}, err
	}
	if err := answer.validate(); err != nil {
		return Stats{}, err
	}
	return answer, nil
}

// Shutdown asks for the guest's orderly end and returns when it has begun.
func (c *Client) Shutdown(ctx context.Context, v Shutdown) error {
	return c.request(ctx, RequestShutdown, v, nil)
}

// request sends a global request and reads its answer into answer, if not nil.
func (c *Client) request(ctx context.Context, name string, v, answer any) error {
	payload, err := encode(v)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	ok, reply, err := c.ssh.SendRequest(name, true, payload)
	switch {
	case !stop():
		return fmt.Errorf("%s: %w", name, ctx.Err())
	case err != nil:
		return fmt.Errorf("%s: no answer from the sandbox: %w", name, err)
	case !ok:
		return fmt.Errorf("%s: %w: %s", name, ErrRefused, reason(reply))
	case answer == nil:
		return nil
	}
	if err := Decode(reply, answer); err != nil {
		return fmt.Errorf("%s: answer of the sandbox: %w", name, err)
	}
	return nil
}

// reason makes the guest's words fit to be shown.
func reason(b []byte) string {
	if len(b) > maxReason {
		b = b[:maxReason]
		for len(b) > 0 && !utf8.RuneStart(b[len(b)-1]) {
			b = b[:len(b)-1]
		}
	}
	if len(b) == 0 {
		return "no reason given"
	}
	return term.Printable(string(b))
}
