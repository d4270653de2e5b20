package qemu

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
)

// gate is a writer that lets nothing through until it is opened.
type gate struct {
	open    chan struct{}
	reached chan struct{} // told of every attempt
	text    bytes.Buffer
}

func (g *gate) Write(p []byte) (int, error) {
	select {
	case g.reached <- struct{}{}:
	default:
	}
	<-g.open
	return g.text.Write(p)
}

func TestConsoleDropsWhatTheWriterCannotTake(t *testing.T) {
	out := &gate{open: make(chan struct{}), reached: make(chan struct{}, 1)}
	ours, guest := net.Pipe()
	c := startConsole(out, ours)
	if _, err := io.WriteString(guest, "first"); err != nil {
		t.Fatal(err)
	}
	<-out.reached // the writer is stuck with it
	flood := bytes.Repeat([]byte("x"), 3*consoleBuffer)
	if _, err := guest.Write(flood); err != nil { // returns all the same
		t.Fatal(err)
	}
	_ = guest.Close()
	close(out.open)
	c.wait()
	got := out.text.String()
	if !strings.HasPrefix(got, "firstxxx") || !strings.Contains(got, "bytes of console output were dropped") {
		t.Errorf("got %.20q ... %q", got, got[max(0, len(got)-60):])
	}
	if len(got) > 2*consoleBuffer {
		t.Errorf("%d bytes were kept", len(got))
	}
}

func TestConsoleMergesItsSockets(t *testing.T) {
	var out bytes.Buffer
	a, guestA := net.Pipe()
	b, guestB := net.Pipe()
	c := startConsole(&out, a, b)
	for _, g := range []net.Conn{guestA, guestB} {
		if _, err := io.WriteString(g, "line\n"); err != nil {
			t.Fatal(err)
		}
		_ = g.Close()
	}
	c.wait()
	if out.String() != "line\nline\n" {
		t.Errorf("got %q", out.String())
	}
}

func TestMonitorLog(t *testing.T) {
	var out bytes.Buffer
	l := newMonitorLog(&out)
	for _, part := range []string{
		"one\n", "two\n", "qemu-system-x86_64: ", "-blockdev ", `{"a":"b"}`, ": ", "Could not open", " '/x y'\n",
		"Is another process using it?",
	} {
		_, _ = io.WriteString(l, part)
	}
	if got, want := l.tail(), "two; Could not open '/x y'; Is another process using it?"; got != want {
		t.Errorf("tail is %q, want %q", got, want)
	}
	for range 100 {
		_, _ = l.Write(bytes.Repeat([]byte("warning\n"), 1000))
	}
	_, _ = l.Write(bytes.Repeat([]byte("endless"), 10000))
	if n := out.Len(); n > monitorLogLimit+2*monitorTail {
		t.Errorf("%d bytes were passed on", n)
	}
	if !strings.Contains(out.String(), "not recorded") {
		t.Error("the cut is not marked")
	}
	if n := len(l.last) + len(l.line); n > 3*monitorTail {
		t.Errorf("%d bytes are remembered", n)
	}
}
