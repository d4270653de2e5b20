package control

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestServerKnowsTheUser(t *testing.T) {
	eachTransport(t, func(t *testing.T, dial dialer) {
		user := make(chan string, 1)
		guest{started: func(c ssh.Conn) { user <- c.User() }}.client(t, dial)
		if got := <-user; got != "agent" {
			t.Errorf("user is %q", got)
		}
	})
}

func TestUserNames(t *testing.T) {
	for _, user := range []string{"a b", "a\nb", "a\x1b", "ä", strings.Repeat("a", maxUser+1)} {
		a, _ := net.Pipe()
		if _, err := newClient(testContext(t), a, user, dialPlain); err == nil {
			t.Errorf("user name %q was accepted", user)
		}
	}
}

func TestMalformedPackets(t *testing.T) {
	packet := func(length uint32, rest ...byte) []byte {
		return append(binary.BigEndian.AppendUint32(nil, length), rest...)
	}
	for name, bad := range map[string][]byte{
		"empty":              packet(0),
		"no message":         packet(1, 0),
		"longer than any":    packet(maxPacket + 1),
		"huge":               packet(1<<32 - 1),
		"padded":             packet(3, 1, 80, 0),
		"key exchange":       packet(3, 0, 20, 0),
		"disconnect":         packet(3, 0, 1, 0),
		"extension":          packet(3, 0, 192, 0),
		"unknown channel":    packet(6, 0, 94, 0, 0, 0, 9),
		"cut global request": packet(2, 0, 80),
	} {
		t.Run(name, func(t *testing.T) {
			a, b := socketpair(t)
			c, err := newClient(testContext(t), a, "", dialPlain)
			if err != nil {
				t.Fatal(err)
			}
			b.Write(bad)
			c.ssh.Wait() // until the connection is given up
			c.Close()
		})
	}
}
