//go:build linux

package guest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
)

// console is the machine's console and the kernel's log.
type console struct {
	mu   sync.Mutex
	kmsg *os.File
	tty  *os.File
}

// openConsole works without either device: then nothing is printed.
func openConsole() *console {
	c := &console{}
	c.kmsg, _ = os.OpenFile("/dev/kmsg", os.O_WRONLY, 0)
	// Without O_NONBLOCK a console that nobody reads would stop PID 1.
	c.tty, _ = os.OpenFile("/dev/console", os.O_WRONLY|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	return c
}

// print writes a line that the host sees whatever the kernel's log level.
func (c *console) print(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tty != nil {
		fmt.Fprintf(c.tty, "sbx-init: %s\n", line)
	}
}

// logger logs to the kernel's ring buffer; warnings go to the console too.
func (c *console) logger() *slog.Logger { return slog.New(&logHandler{console: c}) }

// maxLogLine is below the kernel's limit of a record, about 1000 bytes.
const maxLogLine = 900

type logHandler struct {
	console *console
	attrs   []slog.Attr
}

func (h *logHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *logHandler) Handle(_ context.Context, r slog.Record) error {
	var b bytes.Buffer
	b.WriteString(r.Message)
	add := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%q", a.Key, a.Value.String())
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	line := b.String()
	if len(line) > maxLogLine {
		line = line[:maxLogLine]
	}
	if r.Level >= slog.LevelWarn {
		h.console.print(line)
	}
	h.console.record(r.Level, line)
	return nil
}

func (c *console) record(l slog.Level, line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kmsg == nil {
		return
	}
	priority := 6 // syslog(2)
	if l >= slog.LevelWarn {
		priority = 4
	}
	fmt.Fprintf(c.kmsg, "<%d>sbx-init: %s\n", priority, line)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.console, append(h.attrs[:len(h.attrs):len(h.attrs)], attrs...)}
}

func (h *logHandler) WithGroup(string) slog.Handler { return h }
