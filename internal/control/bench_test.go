package control

import (
	"io"
	"net"
	"testing"
)

// endless is a reader of as many bytes as wanted.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	e.left -= n
	return n, nil
}

// benchMux returns the two ends of a channel over a socket pair.
func benchMux(b *testing.B) (*Mux, net.Listener) {
	x, y := socketpair(b)
	l := Listen(y)
	m, err := DialMux(testContext(b), x)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m, l
}

func benchStream(b *testing.B) (host, guest net.Conn) {
	m, l := benchMux(b)
	host, err := m.Open(testContext(b))
	if err != nil {
		b.Fatal(err)
	}
	guest, err = l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	return host, guest
}

const chunk = 64 << 10

func benchCopy(b *testing.B, to io.Writer, from io.Reader) {
	b.SetBytes(chunk)
	b.ReportAllocs()
	go func() {
		buf := make([]byte, chunk)
		for range b.N {
			to.Write(buf)
		}
	}()
	buf := make([]byte, chunk)
	for range b.N {
		if _, err := io.ReadFull(from, buf); err != nil {
			b.Error(err)
			return
		}
	}
}

func BenchmarkStreamToGuest(b *testing.B) {
	host, guest := benchStream(b)
	benchCopy(b, host, guest)
}

func BenchmarkStreamToHost(b *testing.B) {
	host, guest := benchStream(b)
	benchCopy(b, guest, host)
}

func BenchmarkStreamRoundTrip(b *testing.B) {
	host, guest := benchStream(b)
	go io.Copy(guest, guest)
	buf := make([]byte, 1)
	for b.Loop() {
		host.Write(buf)
		if _, err := io.ReadFull(host, buf); err != nil {
			b.Fatal(err)
		}
	}
}

func benchClient(b *testing.B, m *Mux, dial dialer) *Client {
	s, err := m.Open(testContext(b))
	if err != nil {
		b.Fatal(err)
	}
	c, err := newClient(testContext(b), s, "", dial)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

func serveBench(b *testing.B, l net.Listener) {
	config := serverConfig(b)
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			go guest{session: programs}.serve(s, config)
		}
	}()
}

// What `sbx exec true` costs apart from the program.
func BenchmarkExec(b *testing.B) {
	b.Run("encrypted", func(b *testing.B) { benchExec(b, dialEncrypted) })
	b.Run("plain", func(b *testing.B) { benchExec(b, dialPlain) })
}

func benchExec(b *testing.B, dial dialer) {
	m, l := benchMux(b)
	serveBench(b, l)
	for b.Loop() {
		c := benchClient(b, m, dial)
		if _, err := c.Exec(testContext(b), Spawn{Argv: []string{"false"}}, IO{}); err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// In and out through `cat` at the same time.
func BenchmarkExecCat(b *testing.B) {
	b.Run("encrypted", func(b *testing.B) { benchExecCat(b, dialEncrypted) })
	b.Run("plain", func(b *testing.B) { benchExecCat(b, dialPlain) })
}

func benchExecCat(b *testing.B, dial dialer) {
	m, l := benchMux(b)
	serveBench(b, l)
	c := benchClient(b, m, dial)
	defer c.Close()
	b.SetBytes(chunk)
	b.ReportAllocs()
	b.ResetTimer()
	if _, err := c.Exec(testContext(b), Spawn{Argv: []string{"cat"}},
		IO{Stdin: &endless{left: b.N * chunk}}); err != nil {
		b.Fatal(err)
	}
}
