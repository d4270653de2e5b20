//go:build linux

package session

import (
	"errors"
	"io"
	"os"

	"github.com/pkg/sftp"
)

// SFTPName is the name (argv[0]) under which this program is an SFTP server
// on its standard input and output; see [ServeSFTP].
const SFTPName = "sbx-sftp"

// ServeSFTP serves one SFTP client with the rights of this process. The server
// of a session runs it in a process of the session's user.
func ServeSFTP() error {
	s, err := sftp.NewServer(stdio{})
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Serve(); err != nil && err != io.EOF {
		return err
	}
	return nil
}

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return errors.Join(os.Stdin.Close(), os.Stdout.Close()) }
