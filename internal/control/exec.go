package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/crypto/ssh"
)

// ErrDetached is returned by [Client.Attach] and [Client.Exec] when they ended
// because IO.Detach was closed, and by Attach when its context was cancelled:
// what runs in the persistent session goes on.
var ErrDetached = errors.New("detached")

// ErrLost is returned when the session ended without saying how its program
// did: the machine stopped, or the guest lies.
var ErrLost = errors.New("the connection to the sandbox was lost")

// ErrNotBegun is wrapped by the error of [Client.Exec] and [Client.Attach] when
// it is certain that no program was started: to try again does no harm.
var ErrNotBegun = errors.New("the program was not started")

// notBegun marks an error as ErrNotBegun without changing its text.
type notBegun struct{ error }

func (e notBegun) Unwrap() error      { return e.error }
func (notBegun) Is(target error) bool { return target == ErrNotBegun }

// IO connects a program in the guest. Nil readers are empty, nil writers
// discard.
type IO struct {
	// Stdin is streamed; its end is the end of the program's standard input.
	// A Read that blocks does not keep Exec from returning, but then swallows
	// what it reads last.
	Stdin io.Reader
	// Stdout and Stderr are written by one goroutine each. When one fails the
	// session ends.
	Stdout, Stderr io.Writer
	// Terminal, if not nil, is the terminal that the program gets; all of its
	// output is on Stdout then.
	Terminal *Terminal
	// Signals are forwarded; see [SignalName] for which.
	Signals <-chan os.Signal
	// Detach ends the session when it is closed.
	Detach <-chan struct{}
	// Begun, if not nil, is called once the guest says that the program runs,
	// before anything is read from Stdin or written.
	Begun func()
}

// Terminal describes the user's terminal.
type Terminal struct {
	Term          string // $TERM
	Width, Height int    // in characters
	Resize        <-chan Size
}

// Size of a terminal, in characters.
type Size struct{ Width, Height int }

// Exit is how a program ended: by itself with Code, or by Signal.
type Exit struct {
	Code   int
	Signal string // as "TERM"; empty unless a signal ended it
}

// Status is the exit status in a shell's terms: 128 + N for signal N.
func (e Exit) Status() int {
	if e.Signal != "" {
		return 128 + SignalNumber(e.Signal)
	}
	return e.Code
}

// Exec runs a program and returns when it has ended and all of its output was
// written. Cancelling ctx closes the client.
func (c *Client) Exec(ctx context.Context, s Spawn, streams IO) (Exit, error) {
	return c.run(ctx, RequestSpawn, s, streams)
}

// Attach joins the persistent session of that name, which needs a Terminal,
// until its program ends or until it is told to detach.
func (c *Client) Attach(ctx context.Context, a Attach, streams IO) (Exit, error) {
	if streams.Terminal == nil {
		return Exit{}, errors.New("attaching to a session needs a terminal")
	}
	exit, err := c.run(ctx, RequestAttach, a, streams)
	if err != nil && ctx.Err() != nil {
		err = ErrDetached
	}
	return exit, err
}

func (c *Client) run(ctx context.Context, request string, v any, streams IO) (Exit, error) {
	payload, err := encode(v)
	if err != nil {
		return Exit{}, fmt.Errorf("start a program in the sandbox: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Closing the client is the one thing that works whatever the guest does.
	stop := context.AfterFunc(ctx, func() { c.conn.Close() })
	exit, err := c.session(ctx, cancel, request, payload, streams)
	if stop() {
		return exit, err
	}
	if errors.Is(err, ErrNotBegun) {
		return Exit{}, notBegun{context.Cause(ctx)}
	}
	return Exit{}, context.Cause(ctx)
}

// session runs one session channel from its opening to its end; cancel, with
// the reason, breaks it off.
func (c *Client) session(ctx context.Context, cancel context.CancelCauseFunc, request string, payload []byte, streams IO) (Exit, error) {
	ch, requests, err := c.openSession()
	if err != nil {
		return Exit{}, notBegun{err}
	}
	defer ch.Close()
	s := &session{ch: ch, streams: streams, cancel: cancel, ended: make(chan struct{})}
	var tasks sync.WaitGroup
	tasks.Go(func() { s.serve(requests) })
	tasks.Go(func() { s.watchDetach(ctx) })
	err = s.start(request, payload)
	if err == nil {
		if streams.Begun != nil {
			streams.Begun()
		}
		go s.sendInput() // can't be waited for: nothing interrupts a Read
		tasks.Go(func() { s.forward(ctx) })
		s.copyOutput()
	} else {
		ch.Close()
	}
	<-s.ended
	tasks.Wait()
	if err != nil {
		return Exit{}, err
	}
	return s.result()
}

// session is the state of one session channel.
type session struct {
	ch      ssh.Channel
	streams IO
	cancel  context.CancelCauseFunc

	ended   chan struct{} // closed with the channel
	exit    Exit          // valid after ended, as are the next two
	exitErr error
	exited  bool // the guest said how
}

// start asks for the terminal and the program in one go. A guest that can't
// give the terminal refuses the program.
func (s *session) start(request string, payload []byte) error {
	if t := s.streams.Terminal; t != nil {
		size := windowChange(Size{t.Width, t.Height})
		pty := PtyRequest{Term: t.Term, Columns: size.Columns, Rows: size.Rows, Modes: "\x00"}
		if _, err := s.ch.SendRequest(RequestPty, false, ssh.Marshal(pty)); err != nil {
			return notBegun{fmt.Errorf("%w: %w", ErrLost, err)}
		}
	}
	ok, err := s.ch.SendRequest(request, true, payload)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLost, err)
	}
	if !ok {
		text, _ := io.ReadAll(io.LimitReader(s.ch.Stderr(), maxReason))
		return notBegun{fmt.Errorf("%w: %s", ErrRefused, reason(text))}
	}
	return nil
}

func windowChange(s Size) WindowChange {
	clamp := func(n int) uint32 { return uint32(max(0, min(n, 0xFFFF))) }
	return WindowChange{Columns: clamp(s.Width), Rows: clamp(s.Height)}
}

// bufferSize is that of a pipe, the most that one Read brings.
const bufferSize = 64 << 10

// ChunkSize is the best size of a Write on a channel for bulk data: with all
// headers around it, it fills one frame.
const ChunkSize = maxPayload - 64

func (s *session) sendInput() {
	if s.streams.Stdin != nil {
		buf := make([]byte, ChunkSize)
		for {
			n, err := s.streams.Stdin.Read(buf)
			if n > 0 {
				if _, err := s.ch.Write(buf[:n]); err != nil {
					return // the program's end, or the connection's
				}
			}
			if err != nil {
				break
			}
		}
	}
	s.ch.CloseWrite()
}

// copyOutput returns when the guest has closed both directions of output.
func (s *session) copyOutput() {
	var both sync.WaitGroup
	both.Go(func() { s.copyTo(s.streams.Stderr, s.ch.Stderr()) })
	s.copyTo(s.streams.Stdout, s.ch)
	both.Wait()
}

func (s *session) copyTo(w io.Writer, r io.Reader) {
	if w == nil {
		w = io.Discard
	}
	buf := make([]byte, bufferSize)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				s.cancel(fmt.Errorf("write the program's output: %w", err))
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *session) watchDetach(ctx context.Context) {
	select {
	case <-s.streams.Detach:
		s.cancel(ErrDetached)
	case <-ctx.Done():
	case <-s.ended:
	}
}

// forward sends signals and sizes until the session ends.
func (s *session) forward(ctx context.Context) {
	var resize <-chan Size
	if s.streams.Terminal != nil {
		resize = s.streams.Terminal.Resize
	}
	signals := s.streams.Signals
	for {
		var err error
		select {
		case size, open := <-resize:
			if !open {
				resize = nil
				continue
			}
			_, err = s.ch.SendRequest(RequestWindowChange, false, ssh.Marshal(windowChange(size)))
		case sig, open := <-signals:
			if !open {
				signals = nil
				continue
			}
			if name := SignalName(sig); name != "" {
				_, err = s.ch.SendRequest(RequestSignal, false, ssh.Marshal(SignalRequest{name}))
			}
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		}
		if err != nil {
			return
		}
	}
}

// serve takes the guest's requests on the channel: the first that says how the
// program ended counts, all others are refused.
func (s *session) serve(requests <-chan *ssh.Request) {
	defer close(s.ended)
	for r := range requests {
		known := r.Type == RequestExitStatus || r.Type == RequestExitSignal
		if known && !s.exited {
			s.exited = true
			s.exit, s.exitErr = parseExit(r.Type, r.Payload)
		}
		if r.Reply(known, nil) != nil {
			s.cancel(ErrLost)
		}
	}
}

func (s *session) result() (Exit, error) {
	if !s.exited {
		return Exit{}, ErrLost
	}
	return s.exit, s.exitErr
}

// parseExit reads how the guest says that a program ended. What no program can
// end with is an error, so that no number ends up as success.
func parseExit(request string, payload []byte) (Exit, error) {
	if request == RequestExitStatus {
		var e ExitStatus
		if err := ssh.Unmarshal(payload, &e); err != nil || e.Status > 255 {
			return Exit{}, errors.New("the sandbox reports an impossible exit status")
		}
		return Exit{Code: int(e.Status)}, nil
	}
	var e ExitSignal
	if err := ssh.Unmarshal(payload, &e); err != nil || SignalNumber(e.Signal) == 0 {
		return Exit{}, errors.New("the sandbox reports an end by an unknown signal")
	}
	return Exit{Signal: e.Signal}, nil
}
