package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// at is a clock that the test moves.
type at struct{ time.Time }

func (a *at) now() time.Time            { return a.Time }
func (a *at) after(d time.Duration) *at { a.Time = a.Add(d); return a }

func newLine(tty bool) (*line, *bytes.Buffer, *at) {
	var out bytes.Buffer
	clock := &at{time.Unix(1000, 0)}
	return &line{w: &out, tty: tty, now: clock.now, width: func() int { return 60 }}, &out, clock
}

func TestTerminalRewritesOneLine(t *testing.T) {
	l, out, clock := newLine(true)
	l.report("downloading", 0, 100e6)
	for range 50 {
		clock.after(time.Millisecond)
		l.report("downloading", 1e6, 100e6)
	}
	if n := strings.Count(out.String(), "\r"); n != 1 {
		t.Errorf("drawn %d times within 50 ms", n)
	}
	clock.after(2 * time.Second)
	l.report("downloading", 50e6, 100e6)
	if want := "\rdownloading  50.0 MB of 100.0 MB  24.4 MB/s  2s left\x1b[K"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %q, want %q at the end", out.String(), want)
	}
	l.report("unpacking", 0, 0)
	l.done()
	if want := "\rdownloading  50.0 MB in 2s\x1b[K\n\runpacking\x1b[K\runpacking\x1b[K\n"; !strings.HasSuffix(out.String(), want) {
		t.Errorf("got %q, want %q at the end", out.String(), want)
	}
}

func TestTerminalCutsToWidth(t *testing.T) {
	l, out, _ := newLine(true)
	l.report(strings.Repeat("ä", 100)+"\x1b[2J\n", 5, 10)
	if want := "\r" + strings.Repeat("ä", 59) + "\x1b[K"; out.String() != want {
		t.Errorf("got %q", out.String())
	}
}

func TestTerminalColour(t *testing.T) {
	for _, noColor := range []string{"", "1"} {
		t.Setenv("NO_COLOR", noColor)
		var out bytes.Buffer
		report, done := Terminal(&out, true)
		report("a", 1, 2)
		done()
		if got := strings.Contains(out.String(), "\x1b[2m"); got != (noColor == "") {
			t.Errorf("NO_COLOR=%q: %q", noColor, out.String())
		}
	}
}

func TestPlainLines(t *testing.T) {
	l, out, clock := newLine(false)
	l.report("downloading", 0, 100e6)
	for i := range int64(250) { // 25 s
		clock.after(100 * time.Millisecond)
		l.report("downloading", (i+1)*1e5, 100e6)
	}
	l.report("unpacking", 0, 0)
	l.done()
	want := "downloading\ndownloading: 10.0 MB of 100.0 MB  1.0 MB/s  1m30s left\n" +
		"downloading: 20.0 MB of 100.0 MB  1.0 MB/s  1m20s left\nunpacking\n"
	if out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestBytesAndDuration(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 999_960: "1.0 MB", 1_250_000_000: "1.2 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{0: "0s", 61 * time.Second: "1m01s", 2*time.Hour + 5*time.Minute: "2h05m"} {
		if got := Duration(d); got != want {
			t.Errorf("Duration(%v) = %q, want %q", d, got, want)
		}
	}
}
