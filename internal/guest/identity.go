//go:build linux

package guest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
	"sbx/internal/guest/account"
)

// setIdentity gives the guest its name.
func setIdentity(c control.Configure) error {
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	for path, text := range map[string]string{
		"/etc/hostname":   c.Hostname + "\n",
		"/etc/machine-id": c.MachineID + "\n",
		"/etc/hosts":      withHostname(string(hosts), c.Hostname),
	} {
		if err := putFile(path, text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withHostname returns the hosts(5) file with the loopback addresses of this
// guest; lines for other addresses are the user's and stay.
func withHostname(hosts, name string) string {
	own := "127.0.0.1 localhost " + name + "\n::1 localhost ip6-localhost ip6-loopback\n"
	var rest strings.Builder
	for line := range strings.Lines(hosts) {
		fields := strings.Fields(line)
		if len(fields) > 0 && (fields[0] == "127.0.0.1" || fields[0] == "127.0.1.1" || fields[0] == "::1") {
			continue
		}
		rest.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	return own + rest.String()
}

// putFile replaces a file unless it has the content already.
func putFile(path, text string, mode os.FileMode) error {
	old, err := os.ReadFile(path)
	if err == nil && bytes.Equal(old, []byte(text)) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp := path + ".sbx-new"
	if err := os.Remove(temp); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.WriteFile(temp, []byte(text), mode); err != nil {
		return err
	}
	return os.Rename(temp, path)
}

const (
	persistentFile = "etc/sandbox-persistent.sh"
	persistentText = "# Sourced by every shell of this sandbox. Append what later sessions shall have:\n" +
		"#     echo 'export KEY=value' >> /etc/sandbox-persistent.sh\n"
	// persistentHook runs once in a shell although a login shell that is
	// interactive reads both files that hold it.
	persistentHook = `
# Settings that are kept for later sessions of this sandbox.
if [ -z "${_sbx_persistent:-}" ] && [ -r /etc/sandbox-persistent.sh ]; then
	_sbx_persistent=1
	. /etc/sandbox-persistent.sh
fi
`
)

// persistentEnv makes shells read the persistent file below root: login shells
// by profile.d, interactive ones by bash.bashrc, the rest by BASH_ENV, which
// sessions have in their environment.
func persistentEnv(root string, user account.User) error {
	file := filepath.Join(root, persistentFile)
	if _, err := os.Lstat(file); os.IsNotExist(err) {
		if err := os.WriteFile(file, []byte(persistentText), 0o644); err != nil {
			return err
		}
		if err := os.Chown(file, int(user.UID), int(user.GID)); err != nil {
			return err
		}
	}
	profile := filepath.Join(root, "etc/profile.d/sandbox-persistent.sh")
	if err := addHook(profile); err != nil {
		return err
	}
	rc := filepath.Join(root, "etc/bash.bashrc")
	if !exists(rc) {
		return nil
	}
	return addHook(rc)
}

// addHook appends the hook to a file that does not mention the persistent file.
func addHook(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	if bytes.Contains(text, []byte(persistentFile)) {
		return nil
	}
	return putFile(path, string(text)+persistentHook, 0o644)
}

// loopbackUp brings lo up; its addresses come with that.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_LOOPBACK | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}
