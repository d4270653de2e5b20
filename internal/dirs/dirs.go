// Package dirs says where sbx keeps its files, after the XDG Base Directory
// specification, and makes those directories.
package dirs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Dirs are the absolute paths of the directories of one user.
type Dirs struct {
	Config  string // settings.yaml, policy.yaml
	State   string // sandboxes/NAME/
	Cache   string // kernels/, templates/
	Runtime string // NAME/, with the sockets of running sandboxes
}

// Find computes the directories from the environment; it creates nothing.
func Find() (Dirs, error) {
	home, err := os.UserHomeDir()
	if err != nil {
		return Dirs{}, fmt.Errorf("cannot tell your home directory: %w; set HOME", err)
	}
	d := Dirs{
		Config: filepath.Join(env("XDG_CONFIG_HOME", filepath.Join(home, ".config")), "sbx"),
		State:  filepath.Join(env("XDG_STATE_HOME", filepath.Join(home, ".local", "state")), "sbx"),
		Cache:  filepath.Join(env("XDG_CACHE_HOME", filepath.Join(home, ".cache")), "sbx"),
	}
	if r := env("XDG_RUNTIME_DIR", ""); r != "" {
		d.Runtime = filepath.Join(r, "sbx")
	} else {
		d.Runtime = filepath.Join(os.TempDir(), fmt.Sprintf("sbx-%d", os.Getuid()))
	}
	return d, nil
}

// env reads a variable that, by the specification, counts only when it holds
// an absolute path.
func env(name, fallback string) string {
	if v := os.Getenv(name); filepath.IsAbs(v) {
		return v
	}
	return fallback
}

// Sandboxes holds one directory a sandbox.
func (d Dirs) Sandboxes() string { return filepath.Join(d.State, "sandboxes") }

// Private makes dir, with its parents, as a directory that only this user can
// enter, and refuses one that is somebody else's or open to others: in a
// shared /tmp another user may have put it there first.
func Private(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return explain(dir, err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return explain(dir, err)
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return explain(dir, err)
	}
	if !st.IsDir() {
		return fmt.Errorf("%s is not a directory; remove it", dir)
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Getuid() {
		return fmt.Errorf("%s belongs to another user (uid %d); remove it or set XDG_RUNTIME_DIR", dir, sys.Uid)
	}
	if st.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(dir, 0o700); err != nil {
			return explain(dir, err)
		}
	}
	return nil
}

func explain(dir string, err error) error {
	return fmt.Errorf("cannot make the directory %s: %w; check its owner and mode, or set the XDG_* variables", dir, err)
}
