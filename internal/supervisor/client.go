package supervisor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
)

// ErrNotRunning says that a sandbox has no supervisor that answers.
var ErrNotRunning = errors.New("the sandbox is not running")

// errEnding says that a supervisor is about to end.
var errEnding = errors.New("the sandbox is stopping")

// Client talks to the supervisor of one sandbox.
type Client struct {
	dir  string // the sandbox's runtime directory
	http *http.Client
}

// NewClient makes a client for the supervisor that has its sockets in dir.
func NewClient(dir string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(dir, apiSocket))
	}
	return &Client{dir: dir, http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks for the present state, with the guest's own statistics.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	var s Status
	return &s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// WaitReady returns when the sandbox runs, or with the reason why it won't.
func (c *Client) WaitReady(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/v1/ready", nil, nil)
}

// Stop ends the sandbox, at once with force, and returns when the machine is off.
func (c *Client) Stop(ctx context.Context, force bool) error {
	return c.call(ctx, http.MethodPost, "/v1/stop", stopRequest{Force: force}, nil)
}

// Dial opens a byte stream to the guest's SSH server. The caller closes it.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(c.dir, sshSocket))
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotRunning, err)
	}
	return conn, nil
}

// maxReply bounds what is read of a supervisor's answer, which may carry the
// guest's words.
const maxReply = 4 << 20

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sandbox"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: %v", ErrNotRunning, err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, maxReply))
	if err != nil {
		return fmt.Errorf("%w: %v", ErrNotRunning, err)
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusGone:
		return errEnding
	default:
		return errors.New(strings.TrimSpace(string(reply)))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(reply, out)
}
