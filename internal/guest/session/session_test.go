//go:build linux

package session

import (
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
	"testing"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

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
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	go f.dial("").Exec(ctx, control.Spawn{Argv: []string{"sh", "-c", "echo $$; exec sleep 1000"}}, control.IO{Stdout: w})
	line := make([]byte, 16)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	pid := atoi(t, strings.TrimSpace(string(line[:n])))
	cancel()
	// The fixture's server ends when all of its sessions have, so the test
	// would hang if the program went on.
	_ = pid
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
