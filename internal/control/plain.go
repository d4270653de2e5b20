package control

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// SSH's connection protocol (RFC 4254: channels, requests, windows) runs here
// without its transport protocol (RFC 4253: key exchange, encryption). The port
// is private to the machine, so encryption would hide nothing from anybody, but
// under software emulation it took about half of the throughput and most of the
// time that starting a command takes (single runs on a busy machine).
//
// OpenSSH has a mode for that: a client of a ControlMaster's socket in proxy
// mode (PROTOCOL.mux, MUX_C_PROXY) speaks bare packets. x/crypto implements that
// client, and past its greeting the protocol has no sides, so it serves at both
// ends here, with the master's part of the greeting supplied by [packetConn].
//
// On the wire: the preface, a user name and a newline, once from the client;
// then, in both directions, packets of a length (4 bytes, of what follows), a
// zero byte and a message.
const preface = "sbx1 "

// maxUser is the longest user name.
const maxUser = 64

// maxPacket is the longest packet of x/crypto and OpenSSH.
const maxPacket = 256 << 10

var errPacket = errors.New("malformed SSH packet")

// dialPlain opens the connection protocol for user.
func dialPlain(conn net.Conn, user string) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	if !validUser(user) {
		return nil, nil, nil, fmt.Errorf("%q can't be a user name", user)
	}
	if _, err := conn.Write([]byte(preface + user + "\n")); err != nil {
		return nil, nil, nil, err
	}
	return ssh.NewControlClientConn(newPacketConn(conn, bufio.NewReaderSize(conn, maxFrame)))
}

func validUser(user string) bool {
	return len(user) <= maxUser && !strings.ContainsFunc(user, func(r rune) bool { return r <= ' ' || r > '~' })
}

// NewServerConn is the guest's end of SSH on one stream from the host: of
// [Client], and of any SSH client, such as an editor's, that the host relays.
// It has the results of ssh.NewServerConn; the connection's User says as whom
// programs run, and is the client's word.
func NewServerConn(conn net.Conn, config *ssh.ServerConfig) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	in := bufio.NewReaderSize(conn, maxFrame)
	first, err := in.Peek(len(preface))
	if err != nil {
		conn.Close()
		return nil, nil, nil, fmt.Errorf("read the client's first bytes: %w", err)
	}
	if string(first) != preface {
		return ssh.NewServerConn(&bufferedConn{Conn: conn, in: in}, config)
	}
	line, err := in.ReadSlice('\n')
	if err != nil {
		conn.Close()
		return nil, nil, nil, fmt.Errorf("read the client's preface: %w", err)
	}
	user := string(line[len(preface) : len(line)-1])
	if !validUser(user) {
		conn.Close()
		return nil, nil, nil, errors.New("the client's user name is malformed")
	}
	sc, channels, requests, err := ssh.NewControlClientConn(newPacketConn(conn, in))
	if err != nil {
		conn.Close()
		return nil, nil, nil, err
	}
	return &userConn{Conn: sc, user: user}, channels, requests, nil
}

// userConn adds the user to a connection whose protocol has none.
type userConn struct {
	ssh.Conn
	user string
}

func (c *userConn) User() string { return c.user }

// bufferedConn reads through a buffer that has seen the first bytes.
type bufferedConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *bufferedConn) Read(b []byte) (int, error) { return c.in.Read(b) }

// What the proxy client of PROTOCOL.mux sends first, and what it waits for:
// packets of MUX_MSG_HELLO with version 4, and of MUX_C_PROXY and MUX_S_PROXY
// with request id 0.
var (
	proxyClient = muxPackets(1, 4, 0x1000000f, 0)
	proxyMaster = muxPackets(1, 4, 0x8000000f, 0)
)

func muxPackets(words ...uint32) []byte {
	var b []byte
	for i := 0; i < len(words); i += 2 {
		b = binary.BigEndian.AppendUint32(b, 8)
		b = binary.BigEndian.AppendUint32(b, words[i])
		b = binary.BigEndian.AppendUint32(b, words[i+1])
	}
	return b
}

// packetConn is the connection that x/crypto's proxy client gets: it plays the
// master in the greeting, and then checks each packet that comes in, for the
// client relies on an honest master.
type packetConn struct {
	net.Conn
	in       *bufio.Reader
	greeting *bytes.Reader // the master's, still to be read
	expected []byte        // the client's, still to be written

	header [6]byte // length, padding length, message type
	have   int     // bytes of header
	body   uint32  // bytes of the message after its type still to come
}

func newPacketConn(conn net.Conn, in *bufio.Reader) *packetConn {
	return &packetConn{Conn: conn, in: in, greeting: bytes.NewReader(proxyMaster), expected: proxyClient}
}

func (c *packetConn) Write(b []byte) (int, error) {
	if len(c.expected) == 0 {
		return c.Conn.Write(b)
	}
	if !bytes.HasPrefix(c.expected, b) {
		return 0, errors.New("x/crypto's ControlMaster greeting is not PROTOCOL.mux version 4")
	}
	c.expected = c.expected[len(b):]
	return len(b), nil
}

func (c *packetConn) Read(b []byte) (int, error) {
	if c.greeting.Len() > 0 {
		return c.greeting.Read(b)
	}
	n, err := c.in.Read(b)
	if n > 0 {
		if checkErr := c.check(b[:n]); checkErr != nil {
			return 0, checkErr
		}
	}
	return n, err
}

func (c *packetConn) check(p []byte) error {
	for len(p) > 0 {
		if c.body > 0 {
			n := min(uint32(len(p)), c.body)
			p, c.body = p[n:], c.body-n
			continue
		}
		n := copy(c.header[c.have:], p)
		p, c.have = p[n:], c.have+n
		if err := c.checkHeader(); err != nil {
			return err
		}
	}
	return nil
}

// checkHeader refuses lengths as soon as they are there, so that nothing waits
// for, or stumbles over, the packet.
func (c *packetConn) checkHeader() error {
	if c.have < 4 {
		return nil
	}
	length := binary.BigEndian.Uint32(c.header[:])
	if length < 2 || length > maxPacket {
		return fmt.Errorf("%w: of %d bytes", errPacket, length)
	}
	if c.have < len(c.header) {
		return nil
	}
	// Types 80 to 127 are the connection protocol's (RFC 4250 section 4.1.2).
	if padding, kind := c.header[4], c.header[5]; padding != 0 || kind < 80 || kind > 127 {
		return fmt.Errorf("%w: message type %d", errPacket, kind)
	}
	c.have, c.body = 0, length-2
	return nil
}
