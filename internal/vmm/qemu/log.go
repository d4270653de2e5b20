package qemu

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
)

// Limits on what is kept of QEMU's own words: a guest can make it warn without
// end.
const (
	monitorLogLimit = 256 << 10
	monitorTail     = 4 << 10
)

// monitorLog passes QEMU's output on, a line at a time and up to a limit, and
// remembers its end.
type monitorLog struct {
	mu     sync.Mutex
	out    io.Writer
	line   []byte // not yet complete
	passed int
	last   []byte // the end of the complete lines
}

func newMonitorLog(out io.Writer) *monitorLog {
	if out == nil {
		out = io.Discard
	}
	return &monitorLog{out: out}
}

// Write never fails: QEMU must not be told off for talking. QEMU prints a
// message in several writes.
func (l *monitorLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for rest := p; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			end = len(rest)
		}
		l.line = append(l.line, rest[:end]...)
		if len(l.line) >= monitorTail || l.line[len(l.line)-1] == '\n' {
			l.flush()
		}
		rest = rest[end:]
	}
	return len(p), nil
}

// note adds a line of the driver's own.
func (l *monitorLog) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass(fmt.Appendf(nil, format+"\n", args...))
}

func (l *monitorLog) flush() {
	l.last = append(l.last, l.line...)
	if over := len(l.last) - monitorTail; over > 0 {
		l.last = append(l.last[:0], l.last[over:]...)
	}
	l.pass(l.line)
	l.line = l.line[:0]
}

func (l *monitorLog) pass(p []byte) {
	if l.passed >= monitorLogLimit {
		return
	}
	if l.passed += len(p); l.passed >= monitorLogLimit {
		p = append(p[:len(p):len(p)], "[more of this is not recorded]\n"...)
	}
	_, _ = l.out.Write(p)
}

// noise is how QEMU begins a message: its name, and the option at fault, which
// is ours and not the user's. What it says of the option names the file.
var noise = regexp.MustCompile(`^(qemu[a-z0-9_-]*: )?(-[a-z]+ [^ ]+: )?`)

// tail is the last few lines that QEMU printed, as one.
func (l *monitorLog) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := string(l.last) + string(l.line)
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	if n := len(lines); n > 3 {
		lines = lines[n-3:]
	}
	for i, s := range lines {
		lines[i] = strings.TrimSpace(noise.ReplaceAllString(s, ""))
	}
	return strings.Join(lines, "; ")
}
