//go:build linux

package session

import (
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sbx/internal/guest/reap"
)

const (
	bufferSize = 128 << 10
	pipeSize   = 1 << 20
	// maxDrain bounds what is read from a program's output after its end. It
	// is more than a pipe or terminal holds; without it, a background process
	// that writes for ever would keep the session open.
	maxDrain = 4 * pipeSize
)

// process is a job of one program and the channel that it lives with.
type process struct {
	session *session
	proc    *reap.Process
	master  *os.File // the terminal; nil with pipes
	hup     bool
	close   func() // closes this side's ends; idempotent
}

func (p *process) resize(w, h int) {
	if p.master != nil {
		resizePty(p.master, w, h)
	}
}

func (p *process) signal(s syscall.Signal) { p.proc.SignalGroup(s) }

func (p *process) hangup() {
	if p.hup {
		p.proc.SignalGroup(syscall.SIGHUP)
	}
	p.close()
}

// runPipes starts a program with three pipes.
func (s *session) runPipes(r request) (job, func()) {
	term := ""
	if s.pty != nil {
		term = s.pty.term
	}
	c, err := s.server.resolve(s.user, r, term)
	if err != nil {
		return s.fail(err)
	}
	pipes, err := newPipes()
	if err != nil {
		return s.fail(err)
	}
	proc, err := s.server.start(c, pipes.theirs[:], false)
	pipes.closeTheirs()
	if err != nil {
		pipes.closeOurs()
		return s.fail(err)
	}
	p := &process{session: s, proc: proc, hup: r.hangup, close: pipes.closeOurs}
	return p, func() { p.pump(pipes) }
}

// pump copies until the program has ended and its output is delivered.
func (p *process) pump(pipes *pipes) {
	ch := p.session.ch
	var in, out sync.WaitGroup
	in.Go(func() {
		defer p.session.server.recovered("stdin")
		copyIn(pipes.ours[0], ch)
		pipes.ours[0].Close()
	})
	for i, w := range []io.Writer{ch, ch.Stderr()} {
		out.Go(func() {
			defer p.session.server.recovered("output")
			copyOut(w, pipes.ours[1+i], p.proc)
			// Now the program sees that nobody reads (EPIPE).
			pipes.ours[1+i].Close()
		})
	}
	out.Wait()
	ch.CloseWrite()
	<-p.proc.Done()
	pipes.closeOurs()
	p.session.exit(p.proc) // ends the copy of the input
	in.Wait()
}

// runTerminal starts a program on a pseudo terminal.
func (s *session) runTerminal(r request) (job, func()) {
	c, err := s.server.resolve(s.user, r, s.pty.term)
	if err != nil {
		return s.fail(err)
	}
	proc, master, err := s.server.startTerminal(c, *s.pty)
	if err != nil {
		return s.fail(err)
	}
	p := &process{session: s, proc: proc, master: master, close: func() { master.Close() }}
	return p, func() {
		var in sync.WaitGroup
		in.Go(func() {
			defer s.server.recovered("terminal input")
			copyIn(master, s.ch)
		})
		copyOut(s.ch, master, proc)
		<-proc.Done()
		master.Close() // what is left on the terminal gets SIGHUP
		s.ch.CloseWrite()
		s.exit(proc)
		in.Wait()
	}
}

// startTerminal starts a command on a new pseudo terminal.
func (s *Server) startTerminal(c command, p ptyRequest) (*reap.Process, *os.File, error) {
	master, tty, err := openPty(p, int(c.user.UID))
	if err != nil {
		return nil, nil, err
	}
	defer tty.Close()
	proc, err := s.start(c, []*os.File{tty, tty, tty}, true)
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return proc, master, nil
}

// copyIn copies until src ends or dst is closed. (io.Copy would use a buffer
// of 32 KiB, or splice to a terminal.)
func copyIn(dst io.Writer, src io.Reader) {
	buf := make([]byte, bufferSize)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// copyOut copies a program's output until its end, or until the program has
// ended and nothing is left to read at once.
func copyOut(dst io.Writer, src *os.File, proc *reap.Process) {
	copied := make(chan struct{})
	var watch sync.WaitGroup
	defer watch.Wait()
	defer close(copied)
	watch.Go(func() {
		select {
		case <-proc.Done():
			src.SetReadDeadline(time.Unix(1, 0)) // wakes Read
		case <-copied:
		}
	})
	buf := make([]byte, bufferSize)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			drain(dst, src, buf)
			return
		}
		if err != nil { // io.EOF; EIO from a terminal without programs
			return
		}
	}
}

// drain copies what can be read without waiting.
func drain(dst io.Writer, src *os.File, buf []byte) {
	src.SetReadDeadline(time.Time{})
	raw, err := src.SyscallConn()
	if err != nil {
		return
	}
	for total := 0; total < maxDrain; {
		var n int
		var readErr error
		err := raw.Read(func(fd uintptr) bool {
			n, readErr = unix.Read(int(fd), buf)
			return true
		})
		if readErr == unix.EINTR {
			continue
		}
		if err != nil || readErr != nil || n <= 0 {
			return
		}
		if _, err := dst.Write(buf[:n]); err != nil {
			return
		}
		total += n
	}
}

// pipes are standard input, output and error of a program.
type pipes struct {
	ours, theirs [3]*os.File
}

func newPipes() (*pipes, error) {
	p := &pipes{}
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			p.closeOurs()
			p.closeTheirs()
			return nil, err
		}
		p.ours[i], p.theirs[i] = r, w
		if i == 0 {
			p.ours[i], p.theirs[i] = w, r
		}
		onFD(r, func(fd int) error {
			_, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, pipeSize)
			return err // a smaller pipe does as well
		})
	}
	return p, nil
}

func (p *pipes) closeOurs()   { closeAll(p.ours[:]) }
func (p *pipes) closeTheirs() { closeAll(p.theirs[:]) }

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
