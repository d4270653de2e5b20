//go:build linux

package session

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sbx/internal/control"
	"sbx/internal/guest/reap"
)

// TestMain is also the SFTP server, which sessions start from this program.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == SFTPName {
		if err := ServeSFTP(); err != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

type fixture struct {
	t      *testing.T
	server *Server
	dial   func(user string) *control.Client
	raw    func() *ssh.Client
}

type pipeListener struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return nil }

// serve runs a server as the user of the test, with real programs.
func serve(t *testing.T) *fixture {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{Reaper: reap.New(), Log: slog.New(slog.DiscardHandler), SSH: func() *ssh.ServerConfig { return control.ServerConfig(signer) }}
	s.Configure(Settings{User: u.Username, Workdir: t.TempDir(), Env: []string{"FROM_SANDBOX=1", "BASH_ENV="}})
	l := &pipeListener{make(chan net.Conn), make(chan struct{})}
	var wg, reaper sync.WaitGroup
	reaperCtx, stopReaper := context.WithCancel(context.Background())
	reaper.Go(func() { s.Reaper.Run(reaperCtx) })
	wg.Go(func() { s.Serve(ctx, l) })
	t.Cleanup(func() {
		cancel()
		close(l.done)
		wg.Wait()
		stopReaper()
		reaper.Wait()
	})
	connect := func() net.Conn {
		// A socket, unlike net.Pipe, has a buffer, as SSH expects.
		a, b := socketPair(t)
		l.conns <- a
		return b
	}
	return &fixture{t, s,
		func(user string) *control.Client {
			c, err := control.NewClient(ctx, connect(), user)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			return c
		},
		func() *ssh.Client {
			c, channels, requests, err := ssh.NewClientConn(connect(), "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
			if err != nil {
				t.Fatal(err)
			}
			client := ssh.NewClient(c, channels, requests)
			t.Cleanup(func() { client.Close() })
			return client
		},
	}
}

func socketPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func (f *fixture) spawn(c *control.Client, s control.Spawn, in io.Reader) (out, errs string, e control.Exit) {
	f.t.Helper()
	var o, er bytes.Buffer
	e, err := c.Exec(context.Background(), s, control.IO{Stdin: in, Stdout: &o, Stderr: &er})
	if err != nil {
		f.t.Fatal(err)
	}
	return o.String(), er.String(), e
}

func TestSpawn(t *testing.T) {
	f := serve(t)
	dir := t.TempDir()
	script := filepath.Join(dir, "noshebang")
	os.WriteFile(script, []byte("echo from $1"), 0o755)
	plain := filepath.Join(dir, "plain")
	os.WriteFile(plain, nil, 0o644)
	sh := func(s string) control.Spawn { return control.Spawn{Argv: []string{"sh", "-c", s}} }
	for _, tt := range []struct {
		name     string
		spawn    control.Spawn
		in       string
		out, err string
		exit     control.Exit
	}{
		{"output and exit code", sh("echo out; echo err >&2; exit 3"), "", "out\n", "err\n", control.Exit{Code: 3}},
		{"signal", sh("kill -TERM $$"), "", "", "", control.Exit{Signal: "TERM"}},
		{"a signal without a number in SSH", sh("kill -BUS $$"), "", "", "", control.Exit{Signal: "BUS"}},
		{"input and its end", sh("cat; echo end"), "a\x00\xff\r\n", "a\x00\xff\r\nend\n", "", control.Exit{}},
		{"environment", control.Spawn{Argv: []string{"sh", "-c", "echo $FROM_SANDBOX $MINE $LANG"}, Env: []string{"MINE=2"}}, "", "1 2 en_US.UTF-8\n", "", control.Exit{}},
		{"directory", control.Spawn{Argv: []string{"pwd"}, Dir: dir}, "", dir + "\n", "", control.Exit{}},
		{"relative to the directory", control.Spawn{Argv: []string{"./noshebang", "x"}, Dir: dir}, "", "from x\n", "", control.Exit{}},
		{"not found", control.Spawn{Argv: []string{"nonesuch"}}, "", "", "sbx: nonesuch: command not found\n", control.Exit{Code: 127}},
		{"no such file", control.Spawn{Argv: []string{"/nonesuch"}}, "", "", "sbx: /nonesuch: command not found\n", control.Exit{Code: 127}},
		{"not executable", control.Spawn{Argv: []string{plain}}, "", "", "sbx: cannot execute " + plain + ": permission denied\n", control.Exit{Code: 126}},
		{"a directory", control.Spawn{Argv: []string{"/etc"}}, "", "", "sbx: cannot execute /etc: is a directory\n", control.Exit{Code: 126}},
		{"no such directory", control.Spawn{Argv: []string{"true"}, Dir: "/nonesuch"}, "", "", "sbx: directory \"/nonesuch\" does not exist in the guest\n", control.Exit{Code: 125}},
		{"a background process keeps the output open", sh("sleep 1000 & echo $!"), "", "*", "", control.Exit{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, exit := f.spawn(f.dial(""), tt.spawn, strings.NewReader(tt.in))
			if tt.out == "*" {
				p, _ := os.FindProcess(atoi(t, strings.TrimSpace(out)))
				defer p.Kill()
				tt.out = out
			}
			if out != tt.out || errs != tt.err || exit != tt.exit {
				t.Errorf("got %q, %q, %+v", out, errs, exit)
			}
		})
	}
}

func TestUnknownUser(t *testing.T) {
	f := serve(t)
	_, errs, exit := f.spawn(f.dial("nonesuch"), control.Spawn{Argv: []string{"true"}}, nil)
	if exit.Code != 125 || !strings.Contains(errs, "no such user") {
		t.Errorf("got %q, %+v", errs, exit)
	}
}

func TestMuchDataArrivesUnchanged(t *testing.T) {
	f := serve(t)
	data := make([]byte, 20<<20)
	rand.Read(data)
	want := sha256.Sum256(data)
	h := sha256.New()
	_, err := f.dial("").Exec(context.Background(), control.Spawn{Argv: []string{"cat"}}, control.IO{Stdin: bytes.NewReader(data), Stdout: h})
	if err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
		t.Errorf("changed on the way, or %v", err)
	}
}

func TestOutputOfAnEndedProgramIsDelivered(t *testing.T) {
	f := serve(t)
	c := f.dial("")
	for range 20 {
		// The pipe still holds most of it when the program ends.
		out, _, _ := f.spawn(c, control.Spawn{Argv: []string{"head", "-c", "900000", "/dev/zero"}}, nil)
		if len(out) != 900000 {
			t.Fatalf("%d bytes", len(out))
		}
	}
}

func TestPty(t *testing.T) {
	f := serve(t)
	var out bytes.Buffer
	_, err := f.dial("").Exec(context.Background(),
		control.Spawn{Argv: []string{"sh", "-c", "stty size; tty; echo $TERM"}},
		control.IO{Stdout: &out, Terminal: &control.Terminal{Term: "xterm-256color", Width: 101, Height: 33}})
	if err != nil || !strings.HasPrefix(out.String(), "33 101\r\n/dev/pts/") || !strings.HasSuffix(out.String(), "\r\nxterm-256color\r\n") {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

func TestStandardRequests(t *testing.T) {
	f := serve(t)
	c := f.raw()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.CombinedOutput("echo $0; echo \"$FROM_SANDBOX\"; exit 4")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 4 || !strings.HasSuffix(string(out), "\n1\n") {
		t.Errorf("exec: %q, %v", out, err)
	}

	files, err := sftp.NewClient(c)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	name := filepath.Join(t.TempDir(), "f")
	w, err := files.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w.Write([]byte("hello"))
	w.Close()
	if got, err := os.ReadFile(name); err != nil || string(got) != "hello" {
		t.Errorf("sftp: %q, %v", got, err)
	}
}

func TestForwarding(t *testing.T) {
	f := serve(t)
	for _, network := range []string{"tcp", "unix"} {
		addr := "127.0.0.1:0"
		if network == "unix" {
			addr = filepath.Join(t.TempDir(), "echo")
		}
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.Copy(c, c)
			c.Close()
		}()
		conn, err := f.raw().Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write([]byte("echo"))
		conn.(interface{ CloseWrite() error }).CloseWrite()
		if got, err := io.ReadAll(conn); err != nil || string(got) != "echo" {
			t.Errorf("%s: %q, %v", network, got, err)
		}
	}
	if _, err := f.raw().Dial("unix", "/nonesuch"); err == nil {
		t.Error("connected to nothing")
	}
}

func TestSpawnIsHungUpWithItsChannel(t *testing.T) {
	f := serve(t)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	end, err := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	started, w := io.Pipe()
	client := f.dial("")
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		client.Exec(ctx, control.Spawn{
			Argv: []string{"sh", "-c", `exec 3>"$1"; trap 'echo hangup >&3; exit' HUP; sh -c 'echo started; exec sleep 1000' & wait`, "sh", fifo},
		}, control.IO{Stdout: w})
		w.Close()
	})
	if line, err := bufio.NewReader(started).ReadString('\n'); err != nil {
		t.Fatalf("not started: %q, %v", line, err)
	}
	cancel()
	// It ends when the whole process group has: sleep has the fifo open too.
	if got, err := io.ReadAll(end); err != nil || string(got) != "hangup\n" {
		t.Errorf("the program said %q, %v", got, err)
	}
}

func TestRefusalsSayWhy(t *testing.T) {
	long := make([]string, maxEnv+1)
	attach := func(c *control.Client, a control.Attach, term string) error {
		_, err := c.Attach(context.Background(), a, control.IO{Terminal: &control.Terminal{Term: term, Width: 80, Height: 24}})
		return err
	}
	spawn := func(c *control.Client, s control.Spawn) error {
		_, err := c.Exec(context.Background(), s, control.IO{})
		return err
	}
	f := serve(t)
	for want, do := range map[string]func(*control.Client) error{
		"no program given":             func(c *control.Client) error { return spawn(c, control.Spawn{}) },
		"argument or variable":         func(c *control.Client) error { return spawn(c, control.Spawn{Argv: []string{"a", "b\x00"}}) },
		"directory's name":             func(c *control.Client) error { return spawn(c, control.Spawn{Argv: []string{"a"}, Dir: "\x00"}) },
		"environment is too large":     func(c *control.Client) error { return spawn(c, control.Spawn{Argv: []string{"a"}, Env: long}) },
		"1 to 255 bytes":               func(c *control.Client) error { return attach(c, control.Attach{}, "xterm") },
		`no terminal has the name "a=`: func(c *control.Client) error { return attach(c, control.Attach{Name: "n"}, "a=b") },
	} {
		if err := do(f.dial("")); !errors.Is(err, control.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	f.server.settings.Store(nil)
	if err := spawn(f.dial(""), control.Spawn{Argv: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "not configured yet") {
		t.Errorf("before the configuration: %v", err)
	}
}

func TestExitOf(t *testing.T) {
	for status, want := range map[syscall.WaitStatus]control.Exit{
		0: {}, 7 << 8: {Code: 7}, 15: {Signal: "TERM"}, 11 | 0x80: {Signal: "SEGV"}, 40: {Code: 168},
	} {
		if got := exitOf(status, nil); got != want {
			t.Errorf("%#x: %+v", int(status), got)
		}
	}
	if got := exitOf(0, reap.ErrLost); got.Code != exitFailed {
		t.Errorf("a lost status: %+v", got)
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' {
			t.Fatalf("%q is not a number", s)
		}
		n = 10*n + int(r-'0')
	}
	return n
}
