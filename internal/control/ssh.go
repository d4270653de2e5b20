package control

import (
	"errors"
	"net"

	"golang.org/x/crypto/ssh"
)

// version is what both ends call themselves in SSH's first line.
const version = "SSH-2.0-sbx"

// algorithms are few, which keeps the handshake short. Of the ciphers, both in
// OpenSSH's defaults, ChaCha20 was the faster one under software emulation;
// with hardware virtualization AES should be.
func algorithms() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeCurve25519},
		Ciphers:      []string{ssh.CipherChaCha20Poly1305, ssh.CipherAES128GCM},
		MACs:         []string{ssh.HMACSHA256ETM}, // not used: both ciphers bring their own
	}
}

// ServerConfig is the configuration of the guest's SSH server; see
// [NewServerConn]. Whoever reaches it is the host's user (see [NewClient]) and
// needs no authentication; the SSH user name says as whom programs run. The
// host key should be Ed25519.
func ServerConfig(hostKey ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{Config: algorithms(), NoClientAuth: true, ServerVersion: version}
	c.AddHostKey(hostKey)
	return c
}

// dialEncrypted does the whole of SSH, key exchange included.
func dialEncrypted(conn net.Conn, user string) (ssh.Conn, <-chan ssh.NewChannel, <-chan *ssh.Request, error) {
	return ssh.NewClientConn(conn, "", &ssh.ClientConfig{
		Config:            algorithms(),
		User:              user,
		HostKeyCallback:   ssh.InsecureIgnoreHostKey(), // see NewClient
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519},
		ClientVersion:     version,
		// An honest guest has none, and a server may send them without end.
		BannerCallback: func(string) error { return errors.New("unexpected banner") },
	})
}
