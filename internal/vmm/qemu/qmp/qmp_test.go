package qmp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}`

// server plays QEMU: it greets, and answers each request by what reply says.
func server(t *testing.T, conn net.Conn, reply func(command string, id json.RawMessage) string) {
	var ended sync.WaitGroup
	t.Cleanup(ended.Wait)
	ended.Go(func() {
		defer conn.Close()
		_, _ = fmt.Fprintln(conn, greeting)
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			var request struct {
				Execute string
				ID      json.RawMessage
			}
			if err := json.Unmarshal(lines.Bytes(), &request); err != nil {
				t.Errorf("bad request %s: %v", lines.Bytes(), err)
				return
			}
			answer := `{"return": {}, "id": ` + string(request.ID) + `}`
			if request.Execute != "qmp_capabilities" {
				answer = reply(request.Execute, request.ID)
			}
			if _, err := fmt.Fprintln(conn, answer); err != nil {
				return
			}
		}
	})
}

func connect(t *testing.T, onEvent func(Event), reply func(string, json.RawMessage) string) *Client {
	t.Helper()
	ours, theirs := net.Pipe()
	server(t, theirs, reply)
	c, err := Connect(t.Context(), ours, onEvent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ignore(Event) {}

func TestExecuteReturnsTheReply(t *testing.T) {
	c := connect(t, ignore, func(command string, id json.RawMessage) string {
		return fmt.Sprintf(`{"return": {"status": %q}, "id": %s}`, command, id)
	})
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			command := fmt.Sprint("query-", i)
			var reply struct{ Status string }
			if err := c.Execute(t.Context(), command, map[string]any{"x": 1}, &reply); err != nil || reply.Status != command {
				t.Errorf("%s: %q, %v", command, reply.Status, err)
			}
		})
	}
	all.Wait()
}

func TestExecuteReturnsTheRefusal(t *testing.T) {
	c := connect(t, ignore, func(_ string, id json.RawMessage) string {
		return `{"error": {"class": "DeviceNotFound", "desc": "Device 'x' not found"}, "id": ` + string(id) + `}`
	})
	var refusal *Error
	err := c.Execute(t.Context(), "device_del", nil, nil)
	if !errors.As(err, &refusal) || refusal.Class != "DeviceNotFound" {
		t.Errorf("got %v", err)
	}
}

func TestEventsBetweenReplies(t *testing.T) {
	events := make(chan Event, 1)
	c := connect(t, func(e Event) { events <- e }, func(_ string, id json.RawMessage) string {
		return `{"event": "STOP", "data": {"a": 1}, "timestamp": {"seconds": 1}}` + "\n" +
			`{"return": {}, "id": 4242}` + "\n" + // nobody asked
			`{"return": {}, "id": ` + string(id) + `}`
	})
	if err := c.Execute(t.Context(), "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	if e := <-events; e.Name != "STOP" || string(e.Data) != `{"a": 1}` {
		t.Errorf("got %s %s", e.Name, e.Data)
	}
}

func TestPeerEnds(t *testing.T) {
	ours, theirs := net.Pipe()
	server(t, theirs, func(string, json.RawMessage) string { _ = theirs.Close(); return "" })
	c, err := Connect(t.Context(), ours, ignore)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want ErrClosed", err)
		}
	}
	<-c.Done()
	if err := c.Violation(); err != nil {
		t.Errorf("an ordinary end counts as a violation: %v", err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestContextEndsTheWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan struct{})
	c := connect(t, ignore, func(string, json.RawMessage) string {
		cancel()
		<-answered
		return `{"event": "LATE"}`
	})
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(answered)
}

// A QEMU that reads nothing costs a command its context, not the connection.
func TestContextEndsTheWriting(t *testing.T) {
	ours, theirs := net.Pipe()
	asked := make(chan struct{})
	go func() {
		_, _ = fmt.Fprintln(theirs, greeting)
		_, _ = bufio.NewReader(theirs).ReadString('\n')
		_, _ = io.WriteString(theirs, `{"return": {}, "id": 1}`+"\n")
		<-asked // nothing more is read until then
		server(t, theirs, func(_ string, id json.RawMessage) string { return `{"return": {}, "id": ` + string(id) + `}` })
	}()
	c, err := Connect(t.Context(), ours, ignore)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, ctx := range []context.Context{expired(t, 0), expired(t, time.Millisecond)} {
		if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	}
	close(asked)
	if err := c.Execute(t.Context(), "stop", nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func expired(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// A QEMU that hangs before it greets, or before it reads.
func TestConnectGivesUpWithItsContext(t *testing.T) {
	for _, words := range []string{"", greeting + "\n"} {
		ours, theirs := net.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = io.WriteString(theirs, words)
			cancel()
		}()
		if _, err := Connect(ctx, ours, ignore); !errors.Is(err, context.Canceled) {
			t.Errorf("after %q: %v", words, err)
		}
		_ = theirs.Close()
	}
}

func TestConnectRefusesNonsense(t *testing.T) {
	for name, words := range map[string]string{
		"no JSON":   "hello\n",
		"too long":  strings.Repeat("x", MaxLine+1) + "\n",
		"the end":   "",
		"no object": "[]\n",
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				_, _ = io.WriteString(theirs, words)
				_ = theirs.Close()
			}()
			if _, err := Connect(t.Context(), ours, ignore); !errors.Is(err, ErrClosed) {
				t.Errorf("got %v, want ErrClosed", err)
			}
		})
	}
}

func TestViolationEndsTheConnection(t *testing.T) {
	c := connect(t, ignore, func(string, json.RawMessage) string { return "{half" })
	if err := c.Execute(t.Context(), "stop", nil, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := c.Violation(); err == nil || !strings.Contains(err.Error(), "malformed") {
		t.Errorf("violation is %v", err)
	}
}

// FuzzRead feeds the reader what a taken-over QEMU may send.
func FuzzRead(f *testing.F) {
	f.Add([]byte(greeting + "\n" + `{"return": {}, "id": 1}` + "\n"))
	f.Add([]byte(`{"event": "STOP", "data": null}` + "\n" + `{"id": 18446744073709551615}` + "\n"))
	f.Add([]byte(`{"QMP": {}}` + "\n" + `{"QMP": {}}` + "\n" + `{"id": 1, "error": null}`))
	f.Fuzz(func(t *testing.T, input []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = io.Copy(io.Discard, theirs)
		}()
		go func() {
			_, _ = io.Copy(theirs, bytes.NewReader(input))
			_ = theirs.Close()
		}()
		c, err := Connect(t.Context(), ours, ignore)
		if err != nil {
			return
		}
		_ = c.Execute(t.Context(), "query-status", nil, &struct{ Status string }{})
		<-c.Done()
	})
}
