package control

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// guest is the guest's side of SSH in process.
type guest struct {
	requests func(r *ssh.Request)
	session  func(ch ssh.Channel, requests <-chan *ssh.Request)
	started  func(c ssh.Conn) // called on a goroutine of its own
}

func serverConfig(t testing.TB) *ssh.ServerConfig {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return ServerConfig(signer)
}

func (g guest) serve(conn net.Conn, config *ssh.ServerConfig) {
	sc, channels, requests, err := NewServerConn(conn, config)
	if err != nil {
		conn.Close()
		return
	}
	go func() {
		for r := range requests {
			if g.requests != nil {
				g.requests(r)
			} else {
				r.Reply(false, nil)
			}
		}
	}()
	if g.started != nil {
		go g.started(sc)
	}
	for c := range channels {
		ch, rs, err := c.Accept()
		if err == nil && g.session != nil {
			go g.session(ch, rs)
		}
	}
}

// eachTransport runs a test over both ways to speak SSH.
func eachTransport(t *testing.T, test func(t *testing.T, dial dialer)) {
	t.Run("encrypted", func(t *testing.T) { test(t, dialEncrypted) })
	t.Run("plain", func(t *testing.T) { test(t, dialPlain) })
}

// client connects a client to g.
func (g guest) client(t testing.TB, dial dialer) *Client {
	t.Helper()
	a, b := socketpair(t)
	var wg sync.WaitGroup
	config := serverConfig(t)
	wg.Go(func() { g.serve(b, config) })
	c, err := newClient(testContext(t), a, "agent", dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return c
}

// programs is a session that knows some programs by the first argument.
func programs(ch ssh.Channel, requests <-chan *ssh.Request) {
	var pty PtyRequest
	for r := range requests {
		switch r.Type {
		case RequestPty:
			ssh.Unmarshal(r.Payload, &pty)
		case RequestSpawn, RequestAttach:
			var s Spawn
			if r.Type == RequestAttach {
				var a Attach
				if err := Decode(r.Payload, &a); err != nil || a.Spawn == nil {
					Refuse(ch, r, errors.New("no such session\x1b]52;c;aGk=\a"))
					continue
				}
				s = *a.Spawn
			} else if err := Decode(r.Payload, &s); err != nil {
				Refuse(ch, r, err)
				continue
			}
			r.Reply(true, nil)
			runProgram(ch, requests, s.Argv, pty)
			return
		default:
			r.Reply(false, nil)
		}
	}
}

func runProgram(ch ssh.Channel, requests <-chan *ssh.Request, argv []string, pty PtyRequest) {
	switch argv[0] {
	case "cat":
		go discard(requests)
		io.Copy(ch, ch)
		SendExit(ch, Exit{})
	case "false":
		go discard(requests)
		SendExit(ch, Exit{Code: 1})
	case "both":
		go discard(requests)
		for range 100 {
			io.WriteString(ch, strings.Repeat("o", 10000))
			io.WriteString(ch.Stderr(), strings.Repeat("e", 10000))
		}
		SendExit(ch, Exit{Code: 7})
	case "term":
		io.WriteString(ch, pty.Term)
		go discard(requests)
		SendExit(ch, Exit{Code: int(pty.Columns)})
	case "wait": // for a signal or a new size
		io.WriteString(ch, "ready")
		for r := range requests {
			var s SignalRequest
			var w WindowChange
			if r.Type == RequestSignal && ssh.Unmarshal(r.Payload, &s) == nil {
				go discard(requests)
				SendExit(ch, Exit{Signal: s.Signal})
			} else if r.Type == RequestWindowChange && ssh.Unmarshal(r.Payload, &w) == nil {
				go discard(requests)
				SendExit(ch, Exit{Code: int(w.Columns)})
			}
		}
	}
}

func discard(requests <-chan *ssh.Request) {
	for r := range requests {
		r.Reply(false, nil)
	}
}

func TestExec(t *testing.T) { eachTransport(t, testExec) }

func testExec(t *testing.T, dial dialer) {
	size := make(chan Size, 1)
	size <- Size{99, 20}
	signal := make(chan os.Signal, 2)
	signal <- syscall.SIGWINCH // not forwarded
	signal <- syscall.SIGTERM
	binary := make([]byte, 3<<20)
	rand.Read(binary)
	never, _ := io.Pipe()
	tests := []struct {
		name    string
		argv    string
		streams IO
		want    Exit
		out     []byte
		errs    int
	}{
		{name: "bytes pass unchanged", argv: "cat", streams: IO{Stdin: bytes.NewReader(binary)}, out: binary},
		{name: "no input", argv: "cat"},
		{name: "exit code", argv: "false", want: Exit{Code: 1}},
		{name: "input that never ends", argv: "false", streams: IO{Stdin: never}, want: Exit{Code: 1}},
		{name: "output is drained", argv: "both", want: Exit{Code: 7}, out: bytes.Repeat([]byte("o"), 1e6), errs: 1e6},
		{name: "terminal", argv: "term", streams: IO{Terminal: &Terminal{Term: "xterm", Width: 80, Height: 24}}, want: Exit{Code: 80}, out: []byte("xterm")},
		{name: "resize", argv: "wait", streams: IO{Terminal: &Terminal{Resize: size}}, want: Exit{Code: 99}, out: []byte("ready")},
		{name: "signal", argv: "wait", streams: IO{Signals: signal}, want: Exit{Signal: "TERM"}, out: []byte("ready")},
	}
	c := guest{session: programs}.client(t, dial)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			test.streams.Stdout, test.streams.Stderr = &out, &errs
			got, err := c.Exec(testContext(t), Spawn{Argv: []string{test.argv}}, test.streams)
			if err != nil || got != test.want {
				t.Errorf("exit %+v, error %v; want %+v", got, err, test.want)
			}
			if !bytes.Equal(out.Bytes(), test.out) {
				t.Errorf("%d bytes of output, want %d", out.Len(), len(test.out))
			}
			if errs.Len() != test.errs {
				t.Errorf("%d bytes of errors, want %d", errs.Len(), test.errs)
			}
		})
	}
}

func TestStatusIsThatOfAShell(t *testing.T) {
	for want, e := range map[int]Exit{0: {}, 3: {Code: 3}, 143: {Signal: "TERM"}, 139: {Signal: "SEGV"}} {
		if got := e.Status(); got != want {
			t.Errorf("%+v has status %d, want %d", e, got, want)
		}
	}
}

// A reader that tells when it was first read, which is after the start.
type notifying struct {
	io.Writer
	once sync.Once
	told chan struct{}
}

func (n *notifying) Write(p []byte) (int, error) {
	n.once.Do(func() { close(n.told) })
	return len(p), nil
}

func TestDetach(t *testing.T) { eachTransport(t, testDetach) }

func testDetach(t *testing.T, dial dialer) {
	for _, byContext := range []bool{true, false} {
		c := guest{session: programs}.client(t, dial)
		ctx, cancel := context.WithCancel(testContext(t))
		defer cancel()
		started := &notifying{told: make(chan struct{})}
		detach := make(chan struct{})
		go func() {
			<-started.told
			if byContext {
				cancel()
			} else {
				close(detach)
			}
		}()
		never, _ := io.Pipe()
		_, err := c.Attach(ctx, Attach{Name: "main", Spawn: &Spawn{Argv: []string{"wait"}}},
			IO{Stdin: never, Stdout: started, Terminal: &Terminal{}, Detach: detach})
		if !errors.Is(err, ErrDetached) {
			t.Errorf("byContext %v: error is %v", byContext, err)
		}
	}
}

func TestRefusalsAreShownSafely(t *testing.T) { eachTransport(t, testRefusalsAreShownSafely) }

func testRefusalsAreShownSafely(t *testing.T, dial dialer) {
	c := guest{
		session:  programs,
		requests: func(r *ssh.Request) { Reply(r, nil, errors.New("no\x1b[2J disk\n")) },
	}.client(t, dial)
	_, err := c.Attach(testContext(t), Attach{Name: "main"}, IO{Terminal: &Terminal{}})
	if !errors.Is(err, ErrRefused) || !errors.Is(err, ErrNotBegun) || !strings.HasSuffix(err.Error(), ": no such session") {
		t.Errorf("attach: %q", err)
	}
	err = c.Configure(testContext(t), Configure{})
	if !errors.Is(err, ErrRefused) || !strings.HasSuffix(err.Error(), ": no disk ") {
		t.Errorf("configure: %q", err)
	}
}

func TestOrders(t *testing.T) { eachTransport(t, testOrders) }

func testOrders(t *testing.T, dial dialer) {
	want := Stats{Kernel: "6.12.1", CPUs: 2, MemoryTotal: 1 << 30, MemoryUsed: 5,
		Sessions: []Session{{Name: "main", PID: 7, LastOutput: time.Unix(1, 0).UTC()}}}
	var configured Configure
	c := guest{requests: func(r *ssh.Request) {
		switch r.Type {
		case RequestConfigure:
			Reply(r, nil, Decode(r.Payload, &configured))
		case RequestStats:
			Reply(r, want, nil)
		case RequestClock:
			var v Clock
			err := Decode(r.Payload, &v)
			Reply(r, v, err)
		case RequestShutdown:
			Reply(r, nil, nil)
		}
	}}.client(t, dial)
	ctx := testContext(t)
	if err := c.Configure(ctx, Configure{Hostname: "web"}); err != nil || configured.Hostname != "web" {
		t.Errorf("configure: %v, %+v", err, configured)
	}
	if got, err := c.Stats(ctx); err != nil || got.Kernel != want.Kernel || got.Sessions[0] != want.Sessions[0] {
		t.Errorf("stats: %v, %+v", err, got)
	}
	if got, err := c.Clock(ctx, Clock{Time: 5}); err != nil || got.Time != 5 {
		t.Errorf("clock: %v, %+v", err, got)
	}
	if err := c.Shutdown(ctx, Shutdown{Grace: time.Second}); err != nil {
		t.Errorf("shutdown: %v", err)
	}
}

func TestCancelledRequest(t *testing.T) { eachTransport(t, testCancelledRequest) }

func testCancelledRequest(t *testing.T, dial dialer) {
	ctx, cancel := context.WithCancel(testContext(t))
	c := guest{requests: func(*ssh.Request) { cancel() }}.client(t, dial)
	if _, err := c.Stats(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

// The whole channel at once: port, mux, SSH, several MB there and back.
func TestBytesThroughEverything(t *testing.T) { eachTransport(t, testBytesThroughEverything) }

func testBytesThroughEverything(t *testing.T, dial dialer) {
	b := newBus()
	defer b.close()
	l := Listen(b)
	config := serverConfig(t)
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			go guest{session: programs}.serve(s, config)
		}
	}()
	m, err := DialMux(testContext(t), b.dial())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			s, err := m.Open(testContext(t))
			if err != nil {
				t.Error(err)
				return
			}
			c, err := newClient(testContext(t), s, "", dial)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			in, out := sha256.New(), sha256.New()
			exit, err := c.Exec(testContext(t), Spawn{Argv: []string{"cat"}},
				IO{Stdin: io.TeeReader(io.LimitReader(rand.Reader, 15e5), in), Stdout: out})
			if err != nil || exit != (Exit{}) {
				t.Errorf("exit %+v, error %v", exit, err)
			}
			if !bytes.Equal(in.Sum(nil), out.Sum(nil)) {
				t.Error("other bytes came back")
			}
		})
	}
	all.Wait()
}

// A machine that dies, or a supervisor, ends what runs with ErrLost.
func TestExecReportsALostMachine(t *testing.T) {
	b := newBus()
	defer b.close()
	l := Listen(b)
	config := serverConfig(t)
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			go guest{session: programs}.serve(s, config)
		}
	}()
	for range 20 {
		m, err := DialMux(testContext(t), b.dial())
		if err != nil {
			t.Fatal(err)
		}
		s, err := m.Open(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		c, err := newClient(testContext(t), s, "", dialPlain)
		if err != nil {
			t.Fatal(err)
		}
		started := &notifying{told: make(chan struct{})}
		go func() {
			<-started.told
			m.Close()
		}()
		_, err = c.Exec(testContext(t), Spawn{Argv: []string{"wait"}}, IO{Stdout: started})
		if !errors.Is(err, ErrLost) || errors.Is(err, ErrNotBegun) {
			t.Errorf("error is %v", err)
		}
		c.Close()
	}
}

// A guest that never answers can be given up before the program has begun.
func TestSilentGuestCanBeInterrupted(t *testing.T) { eachTransport(t, testSilentGuestCanBeInterrupted) }

func testSilentGuestCanBeInterrupted(t *testing.T, dial dialer) {
	ctx, cancel := context.WithCancelCause(testContext(t))
	interrupted := errors.New("interrupted")
	c := guest{session: func(ch ssh.Channel, requests <-chan *ssh.Request) {
		<-requests // the spawn, never answered
		cancel(interrupted)
	}}.client(t, dial)
	_, err := c.Exec(ctx, Spawn{Argv: []string{"cat"}}, IO{Begun: func() { t.Error("begun") }})
	if !errors.Is(err, interrupted) {
		t.Errorf("error is %v", err)
	}
}

func TestNothingBeginsOnALostConnection(t *testing.T) {
	c := guest{session: programs}.client(t, dialPlain)
	c.Close()
	_, err := c.Exec(testContext(t), Spawn{Argv: []string{"cat"}}, IO{})
	if !errors.Is(err, ErrLost) || !errors.Is(err, ErrNotBegun) {
		t.Errorf("error is %v", err)
	}
}
