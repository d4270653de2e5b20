package cli

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	xterm "golang.org/x/term"

	"sbx/internal/control"
	"sbx/internal/term"
)

// terminal is the user's terminal while a program in a sandbox has it.
type terminal struct {
	control *control.Terminal
	reset   func() // takes back what the program did to it
	restore func() error
	stop    func()
}

// openTerminal measures the terminal and follows its size; raw makes every key
// go to the program in the sandbox. The caller closes it.
func (a *app) openTerminal(raw bool) (*terminal, error) {
	out, ok := a.stdout.(*os.File)
	if !ok {
		return nil, errNoTerminal
	}
	size := func() control.Size {
		if w, h, err := xterm.GetSize(int(out.Fd())); err == nil && w > 0 && h > 0 {
			return control.Size{Width: w, Height: h}
		}
		return control.Size{Width: 80, Height: 24}
	}
	now := size()
	resize := make(chan control.Size, 1)
	t := &terminal{
		control: &control.Terminal{Term: os.Getenv("TERM"), Width: now.Width, Height: now.Height, Resize: resize},
		reset:   func() {},
		restore: func() error { return nil },
	}
	if t.control.Term == "" {
		t.control.Term = "xterm-256color"
	}
	if raw {
		state, err := xterm.MakeRaw(int(a.stdin.Fd()))
		if err != nil {
			return nil, err
		}
		t.restore = func() error { return xterm.Restore(int(a.stdin.Fd()), state) }
	}
	if isTerminal(out) {
		t.reset = func() { io.WriteString(out, term.Reset) }
	}
	// To be killed by a write nobody reads would leave the terminal as it is.
	signal.Ignore(syscall.SIGPIPE)
	t.stop = followSize(size, resize)
	return t, nil
}

// followSize sends the new size after each SIGWINCH until stopped. Only the
// newest size matters.
func followSize(size func() control.Size, resize chan control.Size) (stop func()) {
	changed := make(chan os.Signal, 1)
	done := make(chan struct{})
	ended := make(chan struct{})
	signal.Notify(changed, syscall.SIGWINCH)
	go func() {
		defer close(ended)
		for {
			select {
			case <-changed:
			case <-done:
				return
			}
			select {
			case <-resize:
			default:
			}
			resize <- size()
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
		<-ended
	}
}

// Close gives the terminal back as it was.
func (t *terminal) Close() error {
	t.stop()
	t.reset()
	err := t.restore()
	signal.Reset(syscall.SIGPIPE)
	return err
}

// detachReader passes keys on until it reads the detach sequence.
type detachReader struct {
	in       *os.File
	keys     []byte
	detached chan struct{} // closed on the sequence
	matched  int           // length of the prefix of keys that is held back
	pending  []byte        // passed on before more is read
	err      error         // what follows pending
}

func newDetachReader(in *os.File, keys []byte) *detachReader {
	return &detachReader{in: in, keys: keys, detached: make(chan struct{})}
}

var errDetached = errors.New("detached")

// Read holds back a beginning of the sequence until the next key decides.
func (d *detachReader) Read(p []byte) (int, error) {
	for len(d.pending) == 0 && d.err == nil {
		buf := make([]byte, 4096)
		var n int
		n, d.err = d.in.Read(buf)
		for _, key := range buf[:n] {
			if d.feed(key) {
				close(d.detached)
				d.err = errDetached
				break
			}
		}
	}
	if len(d.pending) == 0 {
		return 0, d.err
	}
	n := copy(p, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}

// feed says whether key completes the sequence.
func (d *detachReader) feed(key byte) bool {
	if len(d.keys) == 0 {
		d.pending = append(d.pending, key)
		return false
	}
	if key == d.keys[d.matched] {
		d.matched++
		return d.matched == len(d.keys)
	}
	d.pending = append(d.pending, d.keys[:d.matched]...)
	d.matched = 0
	if key == d.keys[0] {
		d.matched = 1
		return len(d.keys) == 1
	}
	d.pending = append(d.pending, key)
	return false
}
