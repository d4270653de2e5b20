//go:build linux

package session

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"
)

// forwardTCP connects a direct-tcpip channel (RFC 4254, section 7.2).
func forwardTCP(ctx context.Context, c ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(c.ExtraData(), &m); err != nil || m.Port > 65535 {
		c.Reject(ssh.ConnectionFailed, "malformed address")
		return
	}
	forward(ctx, c, "tcp", net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port))))
}

// forwardUnix connects a direct-streamlocal@openssh.com channel (PROTOCOL
// file of OpenSSH, section 2.4). The socket sees a connection of root.
func forwardUnix(ctx context.Context, c ssh.NewChannel) {
	var m struct {
		Path       string
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(c.ExtraData(), &m); err != nil {
		c.Reject(ssh.ConnectionFailed, "malformed address")
		return
	}
	forward(ctx, c, "unix", m.Path)
}

func forward(ctx context.Context, c ssh.NewChannel, network, address string) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		c.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	ch, requests, err := c.Accept()
	if err != nil {
		return
	}
	defer ch.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		ssh.DiscardRequests(requests)
		conn.Close() // the channel is gone
	})
	wg.Go(func() {
		io.Copy(conn, ch)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	})
	io.Copy(ch, conn)
	ch.CloseWrite()
	// The other direction may go on; it ends at the host's EOF or close.
	wg.Wait()
}
