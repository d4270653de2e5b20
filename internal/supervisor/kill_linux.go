package supervisor

import (
	"fmt"
	"net"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Kill ends a supervisor that does not react any more, by SIGKILL; its machine
// dies with it. Who it is, the kernel says: the process that listens.
func (c *Client) Kill() error {
	conn, err := net.Dial("unix", filepath.Join(c.dir, apiSocket))
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		peer, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if credErr != nil {
		return credErr
	}
	if err := unix.Kill(int(peer.Pid), unix.SIGKILL); err != nil {
		return fmt.Errorf("kill process %d: %w", peer.Pid, err)
	}
	return nil
}
