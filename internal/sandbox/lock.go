package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const lockName = "lock"

// ErrLocked says that another process runs, starts, stops or removes the sandbox.
var ErrLocked = errors.New("the sandbox is in use")

// Lock is held on a sandbox until released, or until the process dies.
type Lock struct{ f *os.File }

// Release gives the lock back.
func (l *Lock) Release() error { return l.f.Close() }

// openLock opens dir's lock file, in a directory that must exist.
func openLock(dir string) (*os.File, error) {
	return os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
}

// stillThere checks that the file that was locked is the one that dir has now:
// the directory may have been removed while we waited.
func stillThere(f *os.File, dir string) error {
	have, err := f.Stat()
	if err != nil {
		return err
	}
	want, err := os.Lstat(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	if !os.SameFile(have, want) {
		return fmt.Errorf("%s: %w", dir, fs.ErrNotExist)
	}
	return nil
}

func olderThanAMinute(st fs.FileInfo) bool { return time.Since(st.ModTime()) > time.Minute }
