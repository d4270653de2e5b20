package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A guest that opens channels and sends requests towards the host gets nothing,
// and what the host wants goes on working.
func TestGuestCanOpenNothing(t *testing.T) {
	eachTransport(t, func(t *testing.T, dial dialer) {
		answers := make(chan error, 8)
		c := guest{session: programs, started: func(c ssh.Conn) {
			for _, kind := range []string{"session", "auth-agent@openssh.com", "forwarded-tcpip", "x11", "direct-tcpip"} {
				ch, _, err := c.OpenChannel(kind, nil)
				if err == nil {
					ch.Close()
					err = errors.New(kind + " was accepted")
				} else if refusal := (*ssh.OpenChannelError)(nil); errors.As(err, &refusal) && refusal.Reason == ssh.Prohibited {
					err = nil
				}
				answers <- err
			}
			for _, name := range []string{"tcpip-forward", "streamlocal-forward@openssh.com", RequestStats} {
				ok, _, err := c.SendRequest(name, true, nil)
				if ok {
					err = errors.New(name + " was granted")
				}
				answers <- err
			}
		}}.client(t, dial)
		for range cap(answers) {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if exit, err := c.Exec(testContext(t), Spawn{Argv: []string{"false"}}, IO{}); err != nil || exit.Code != 1 {
			t.Errorf("exit %+v, error %v", exit, err)
		}
	})
}

// lying starts a session that says yes to every program and then does as lie
// says.
func lying(lie func(ch ssh.Channel)) guest {
	return guest{session: func(ch ssh.Channel, requests <-chan *ssh.Request) {
		for r := range requests {
			r.Reply(true, nil)
			if r.Type == RequestSpawn {
				go discard(requests)
				lie(ch)
				ch.Close()
			}
		}
	}}
}

func TestLiesAboutTheExit(t *testing.T) {
	send := func(name string, payload []byte) func(ssh.Channel) {
		return func(ch ssh.Channel) { ch.SendRequest(name, false, payload) }
	}
	tests := map[string]func(ssh.Channel){
		"no exit":          func(ssh.Channel) {},
		"256, 0 as a byte": send(RequestExitStatus, ssh.Marshal(ExitStatus{256})),
		"largest":          send(RequestExitStatus, ssh.Marshal(ExitStatus{1<<32 - 1})),
		"no number":        send(RequestExitStatus, nil),
		"too much":         send(RequestExitStatus, make([]byte, 100)),
		"unknown signal":   send(RequestExitSignal, ssh.Marshal(ExitSignal{Signal: "\x1b]0;x\a"})),
		"no signal":        send(RequestExitSignal, ssh.Marshal(ExitSignal{})),
		"malformed signal": send(RequestExitSignal, []byte{255, 255, 255, 255}),
		"a failure first": func(ch ssh.Channel) {
			send(RequestExitStatus, nil)(ch)
			send(RequestExitStatus, ssh.Marshal(ExitStatus{0}))(ch)
		},
		"another request": send("exit-status@evil", ssh.Marshal(ExitStatus{0})),
		"a flood of others": func(ch ssh.Channel) {
			for range 5000 {
				send("x", nil)(ch)
			}
		},
	}
	eachTransport(t, func(t *testing.T, dial dialer) {
		for name, lie := range tests {
			t.Run(name, func(t *testing.T) {
				c := lying(lie).client(t, dial)
				exit, err := c.Exec(testContext(t), Spawn{Argv: []string{"x"}}, IO{})
				if err == nil {
					t.Errorf("believed: %+v", exit)
				}
			})
		}
	})
}

// A guest floods what nobody reads: memory stays bounded by the windows.
func TestFloodsAreBounded(t *testing.T) {
	c := lying(func(ch ssh.Channel) {
		junk := make([]byte, 32<<10)
		go io.Copy(ch.Stderr(), &endless{left: 64 << 20})
		for {
			if _, err := ch.Write(junk); err != nil {
				return
			}
		}
	}).client(t, dialPlain)
	detach, blocked := make(chan struct{}), make(chan struct{})
	stuck := &stuckWriter{reached: blocked, release: detach}
	ended := make(chan error)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	go func() {
		_, err := c.Exec(testContext(t), Spawn{Argv: []string{"x"}}, IO{Stdout: stuck, Stderr: stuck, Detach: detach})
		ended <- err
	}()
	<-blocked
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 32<<20 {
		t.Errorf("grown by %d MiB", grown>>20)
	}
	close(detach)
	if err := <-ended; !errors.Is(err, ErrDetached) {
		t.Errorf("error is %v", err)
	}
}

type stuckWriter struct{ reached, release chan struct{} }

func (s *stuckWriter) Write(p []byte) (int, error) {
	select {
	case s.reached <- struct{}{}:
	case <-s.release:
	}
	<-s.release
	return len(p), nil
}

func TestLiesInStats(t *testing.T) {
	fine := Stats{Kernel: "6.12"}
	for name, lie := range map[string]func(*Stats){
		"escape in kernel":     func(s *Stats) { s.Kernel = "6\x1b]52;c;x\a" },
		"newline in kernel":    func(s *Stats) { s.Kernel = "6\n7" },
		"long kernel":          func(s *Stats) { s.Kernel = strings.Repeat("x", 1000) },
		"negative memory":      func(s *Stats) { s.MemoryUsed = -1 },
		"more than all memory": func(s *Stats) { s.MemoryTotal, s.MemoryUsed = 1, 2 },
		"huge disk":            func(s *Stats) { s.DiskTotal = 1 << 62 },
		"negative uptime":      func(s *Stats) { s.Uptime = -1 },
		"many CPUs":            func(s *Stats) { s.CPUs = 1 << 30 },
		"session name":         func(s *Stats) { s.Sessions = []Session{{Name: "a\u202eb"}} },
		"session PID":          func(s *Stats) { s.Sessions = []Session{{PID: -5}} },
		"session time":         func(s *Stats) { s.Sessions = []Session{{LastOutput: time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)}} },
		"many sessions":        func(s *Stats) { s.Sessions = make([]Session, maxSessions+1) },
	} {
		s := fine
		lie(&s)
		if s.validate() == nil {
			t.Errorf("%s: believed", name)
		}
	}
	if err := fine.validate(); err != nil {
		t.Error(err)
	}
	for name, payload := range map[string]string{
		"no JSON": "\x00", "another type": `{"cpus":"x"}`, "number too large": `{"cpus":1e99}`,
		"too long": `{"kernel":"` + strings.Repeat("x", MaxMessage) + `"}`,
	} {
		c := guest{requests: func(r *ssh.Request) { r.Reply(true, []byte(payload)) }}.client(t, dialPlain)
		if _, err := c.Stats(testContext(t)); err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

// rawServer is a guest that writes bytes instead of SSH.
func TestGarbageInsteadOfSSH(t *testing.T) {
	banner := []byte("SSH-2.0-x\r\n")
	for name, junk := range map[string][]byte{
		"lines without end":  bytes.Repeat([]byte("welcome\r\n"), 1<<16),
		"one line":           bytes.Repeat([]byte("x"), 1<<20),
		"huge packet":        append(banner, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3),
		"zeros":              append(banner, make([]byte, 1<<16)...),
		"version and random": append(banner, bytes.Repeat([]byte{0, 0, 1, 0, 20}, 1000)...),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := socketpair(t)
			go io.Copy(io.Discard, b)
			go func() { b.Write(junk); b.Close() }()
			if c, err := newClient(testContext(t), a, "", dialEncrypted); err == nil {
				c.Close()
				t.Error("believed")
			}
		})
	}
}

// rawMux joins a guest that then writes raw bytes where yamux is expected.
func rawMux(t *testing.T, junk []byte) *Mux {
	t.Helper()
	a, b := socketpair(t)
	go func() {
		c, err := NewGuestPort(b).Accept()
		if err == nil {
			c.Write(junk)
		}
	}()
	m, err := DialMux(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func yamuxMessage(version, kind byte, flags uint16, stream, length uint32) []byte {
	b := []byte{version, kind}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return binary.BigEndian.AppendUint32(b, length)
}

func TestMuxRefuses(t *testing.T) {
	for name, junk := range map[string][]byte{
		"a stream":           yamuxMessage(0, yamuxWindow, yamuxSYN, 2, 0),
		"a stream with data": yamuxMessage(0, yamuxData, yamuxSYN, 1, 5),
		"a ping":             yamuxMessage(0, yamuxPing, yamuxSYN, 0, 1),
		"a pong":             yamuxMessage(0, yamuxPing, 2, 0, 1),
		"its own stream":     yamuxMessage(0, yamuxData, 0, 2, 5),
		"a huge message":     yamuxMessage(0, yamuxData, 0, 1, 1<<32-1),
		"a huge window":      yamuxMessage(0, yamuxWindow, 0, 1, 1<<32-1),
		"flags":              yamuxMessage(0, yamuxData, 0x100, 1, 1),
		"a type":             yamuxMessage(0, 9, 0, 1, 1),
		"a version":          yamuxMessage(9, 0, 0, 1, 1),
		"an end by error":    yamuxMessage(0, yamuxGoAway, 0, 0, 1),
	} {
		t.Run(name, func(t *testing.T) {
			m := rawMux(t, junk)
			<-m.Done()
			if err := m.Err(); err == nil {
				t.Error("no error")
			}
		})
	}
}

func TestMuxBoundsItsStreams(t *testing.T) {
	a, b := socketpair(t)
	NewGuestPort(b) // joins, and is silent
	m, err := DialMux(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for range maxStreams {
		if _, err := m.Open(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Open(testContext(t)); !errors.Is(err, ErrTooManyStreams) {
		t.Errorf("error is %v", err)
	}
}

// What a guest that never acknowledges writes does not keep the host.
func TestJoinSkipsGarbage(t *testing.T) {
	a, b := socketpair(t)
	junk := header{kind: kindAck, session: 7}.append(nil)
	junk = header{kind: kindData, length: maxPayload, session: 7}.append(junk) // and then not that much
	junk = append(junk, magic...)
	go func() {
		b.Write(junk)
		echo(Listen(b))
	}()
	m, err := DialMux(testContext(t), a)
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
}

func FuzzFrames(f *testing.F) {
	hello := header{kind: kindHello, session: 1}.append(nil)
	data := append(header{kind: kindData, length: 3, session: 1}.append(nil), "abc"...)
	f.Add(bytes.Join([][]byte{make([]byte, 50), hello, data, magic, data}, nil))
	f.Add(header{kind: kindData, length: maxPayload, session: 1}.append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		// The guest's reader.
		g := NewGuestPort(struct {
			io.Reader
			io.Writer
		}{&closedAfter{bytes.NewReader(in)}, io.Discard})
		<-g.done
		if c, err := g.accept(); err == nil {
			io.Copy(io.Discard, c)
		}
		// The host's, past its handshake.
		conn := &byteConn{r: bytes.NewReader(in)}
		h := &hostConn{Conn: conn, in: newFrameReader(conn), out: newFrameWriter(io.Discard, 1)}
		n, _ := io.Copy(io.Discard, h)
		if n > int64(len(in)) {
			t.Fatalf("%d bytes out of %d", n, len(in))
		}
		// Before it.
		h = &hostConn{in: newFrameReader(bytes.NewReader(in)), out: newFrameWriter(io.Discard, 1)}
		h.awaitAck()
	})
}

// closedAfter is a port that fails at its end: a real one only pauses there.
type closedAfter struct{ r io.Reader }

func (c *closedAfter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if err != nil {
		err = net.ErrClosed
	}
	return n, err
}

// byteConn is a connection whose other end said all it has to say.
type byteConn struct {
	net.Conn
	r      io.Reader
	closed atomic.Bool
}

func (c *byteConn) Read(p []byte) (int, error) { return c.r.Read(p) }
func (c *byteConn) LocalAddr() net.Addr        { return portAddr{} }
func (c *byteConn) RemoteAddr() net.Addr       { return portAddr{} }

func (c *byteConn) Write(p []byte) (int, error) {
	if c.closed.Load() {
		return 0, net.ErrClosed
	}
	return len(p), nil
}

func (c *byteConn) Close() error {
	c.closed.Store(true)
	return nil
}

func FuzzYamuxGuard(f *testing.F) {
	f.Add(append(yamuxMessage(0, yamuxData, 2, 1, 3), "abc"...), 5)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		var whole, parts yamuxGuard
		cut = max(0, min(cut, len(in)))
		want := whole.check(in)
		got := parts.check(in[:cut])
		if got == nil {
			got = parts.check(in[cut:])
		}
		if (want == nil) != (got == nil) {
			t.Fatalf("whole: %v, in parts: %v", want, got)
		}
	})
}

// A guest's packets must not bring the client down, whatever they are.
func FuzzPlainPackets(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 80, 0, 0, 0, 6, 0, 94, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := &byteConn{r: bytes.NewReader(in)}
		c, err := newClient(testContext(t), conn, "", dialPlain)
		if err != nil {
			t.Fatal(err)
		}
		c.Exec(testContext(t), Spawn{}, IO{})
		c.ssh.Wait()
		c.Close()
	})
}
