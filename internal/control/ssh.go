package control

import "golang.org/x/crypto/ssh"

// version is what both ends call themselves in SSH's first line.
const version = "SSH-2.0-sbx"

// algorithms is the one set that both ends offer: it keeps the handshake short,
// and OpenSSH, which users' editors run through the proxy command, has it.
func algorithms() ssh.Config {
	return ssh.Config{
		KeyExchanges: []string{ssh.KeyExchangeCurve25519},
		Ciphers:      []string{ssh.CipherAES128GCM},
		MACs:         []string{ssh.HMACSHA256ETM}, // GCM brings its own
	}
}

// ServerConfig is the configuration of the guest's SSH server. Whoever reaches
// it is the host's user (see [NewClient]) and needs no authentication; the SSH
// user name says as whom programs run. The host key should be Ed25519.
func ServerConfig(hostKey ssh.Signer) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		Config:        algorithms(),
		NoClientAuth:  true,
		ServerVersion: version,
	}
	c.AddHostKey(hostKey)
	return c
}
