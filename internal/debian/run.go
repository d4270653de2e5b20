package debian

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxOutput bounds what is kept of apt's output.
const maxOutput = 16 << 20

// hostApt runs a program of apt with the host's own configuration; it only
// reads.
func hostApt(ctx context.Context, name string, args ...string) (string, error) {
	return run(ctx, command(ctx, name, args, os.Environ()), nil)
}

// apt runs a program of apt in the world's own configuration.
func (w *World) apt(ctx context.Context, dir string, status func(percent float64), name string, args ...string) (string, error) {
	cmd := command(ctx, name, args, append(os.Environ(), "APT_CONFIG="+w.path("apt.conf"), "TMPDIR="+w.path("tmp")))
	cmd.Dir = dir
	return run(ctx, cmd, status)
}

func command(ctx context.Context, name string, args, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(env, "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	// apt ends its download methods when it is told to terminate.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// run returns the standard output of cmd; an error carries what apt said.
// With status, apt reports the percentage of a download on descriptor 3.
func run(ctx context.Context, cmd *exec.Cmd, status func(float64)) (string, error) {
	var stdout, stderr limited
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	wait := func() {}
	if status != nil {
		r, wr, err := os.Pipe()
		if err != nil {
			return "", err
		}
		cmd.ExtraFiles = []*os.File{wr}
		cmd.Args = append(cmd.Args, "-o", "APT::Status-Fd=3")
		done := make(chan struct{})
		go func() {
			defer close(done)
			readStatus(r, status)
		}()
		wait = func() { wr.Close(); <-done; r.Close() }
	}
	err := cmd.Run()
	wait()
	if err != nil && ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", &aptError{program: cmd.Args[0], messages: complaints(stderr.String()), err: err}
	}
	return stdout.String(), nil
}

// readStatus reads apt's status lines, "dlstatus:ITEM:PERCENT:TEXT".
func readStatus(r io.Reader, status func(float64)) {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		f := strings.SplitN(sc.Text(), ":", 4)
		if len(f) < 3 || f[0] != "dlstatus" {
			continue
		}
		if p, err := strconv.ParseFloat(f[2], 64); err == nil && p >= 0 && p <= 100 {
			status(p)
		}
	}
	io.Copy(io.Discard, r) // never block apt on a line that is too long
}

// aptError is a failed run of apt, in apt's words.
type aptError struct {
	program  string
	messages []string
	err      error
}

func (e *aptError) Error() string {
	if len(e.messages) == 0 {
		return fmt.Sprintf("%s: %v", e.program, e.err)
	}
	return fmt.Sprintf("%s: %s", e.program, strings.Join(e.messages, "; "))
}

func (e *aptError) Unwrap() error { return e.err }

// mentions reports whether apt's complaints contain one of words.
func (e *aptError) mentions(words ...string) bool {
	text := strings.Join(e.messages, "\n")
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// complaints picks the errors, or else the warnings, out of apt's standard
// error: at most three, each once.
func complaints(stderr string) []string {
	var found []string
	for _, prefix := range []string{"E: ", "W: "} {
		seen := map[string]bool{}
		for line := range strings.Lines(stderr) {
			text, ok := strings.CutPrefix(strings.TrimSpace(line), prefix)
			if ok && !seen[text] && len(found) < 3 {
				seen[text] = true
				found = append(found, text)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	if s := strings.TrimSpace(stderr); s != "" {
		return []string{s[:min(len(s), 500)]}
	}
	return nil
}

// limited keeps the first maxOutput bytes and drops the rest.
type limited struct{ buf bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.buf.Write(p[:min(len(p), maxOutput-l.buf.Len())])
	return len(p), nil
}

func (l *limited) String() string { return l.buf.String() }
