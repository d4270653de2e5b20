// Package debian gets packages from the Debian mirror that this machine
// already uses, in an apt world of its own: the host's sources, lists and
// package state stay untouched, no root is needed, and apt verifies the
// archive's signatures.
//
// Start with [HostMirror], or with a [Mirror] that the user named, then [Open]
// a [World] on it, [World.Update] its lists and [World.Download] packages. The
// world keeps the host's way to the network (proxies, client certificates,
// credentials) and none of the host's sources, pins or hooks.
package debian

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// ErrNoMirror says that the host's apt configuration names no Debian mirror,
// as on Ubuntu, or that there is no apt at all.
var ErrNoMirror = errors.New("this machine's apt configuration names no Debian mirror; name one with `sbx settings set setup.mirror URL`")

// keyrings are where the package debian-archive-keyring puts the archive's
// keys, in its versions so far.
var keyrings = []string{
	"/usr/share/keyrings/debian-archive-keyring.gpg",
	"/usr/share/keyrings/debian-archive-keyring.pgp",
}

// Mirror is a Debian archive and the keys that sign it.
type Mirror struct {
	URI     string // where dists/ and pool/ are; http, https or file
	Keyring string // path; empty means the one of debian-archive-keyring
}

// check returns m with its keyring filled in, or says what is wrong with it.
func (m Mirror) check() (Mirror, error) {
	u, err := url.Parse(m.URI)
	if err != nil || strings.ContainsAny(m.URI, " \t\r\n[]\"") {
		return m, fmt.Errorf("%q is not a mirror's URL; write it like https://HOST/debian", m.URI)
	}
	switch u.Scheme {
	case "http", "https":
		if u.Host == "" {
			return m, fmt.Errorf("the mirror's URL %q names no host; write it like https://HOST/debian", m.URI)
		}
	case "file":
	default:
		return m, fmt.Errorf("the mirror's URL %q is neither http, https nor file", m.URI)
	}
	if m.Keyring == "" {
		m.Keyring = findKeyring()
	}
	if m.Keyring == "" {
		return m, errors.New("the keys of the Debian archive are not installed; install the package debian-archive-keyring")
	}
	if _, err := os.Stat(m.Keyring); err != nil {
		return m, fmt.Errorf("the keys of the Debian archive are missing: %w; install the package debian-archive-keyring", err)
	}
	if strings.ContainsAny(m.Keyring, " \t\r\n[]\"") {
		return m, fmt.Errorf("the path of the keyring, %q, has characters that apt does not allow", m.Keyring)
	}
	return m, nil
}

func findKeyring() string {
	for _, k := range keyrings {
		if _, err := os.Stat(k); err == nil {
			return k
		}
	}
	return ""
}

// Line is the one-line source (sources.list(5)) for suite on this mirror, for
// a program that runs its own apt, such as mmdebstrap. Options are further
// "key=value" pairs.
func (m Mirror) Line(suite string, options ...string) (string, error) {
	m, err := m.check()
	if err != nil {
		return "", err
	}
	options = append([]string{"signed-by=" + m.Keyring}, options...)
	return fmt.Sprintf("deb [%s] %s %s main", strings.Join(options, " "), m.URI, suite), nil
}

// Arch is the Debian name of the architecture that this program runs on.
func Arch() string {
	switch runtime.GOARCH {
	case "arm":
		return "armhf"
	case "386":
		return "i386"
	case "ppc64le":
		return "ppc64el"
	}
	return runtime.GOARCH
}

// haveApt says, as an error, which program of apt is missing.
func haveApt() error {
	for _, name := range []string{"apt-get", "apt-cache", "apt-config"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("%s is not installed: this needs a Debian or Ubuntu host", name)
		}
	}
	return nil
}
