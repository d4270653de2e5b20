package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrTooMuch says that a folder holds more than a sandbox should be given; the
// user may insist.
var ErrTooMuch = errors.New("that shares too much")

// ParseWorkspace resolves an argument PATH[:ro] to a folder that can be shared.
// The error wraps ErrTooMuch, with a usable Workspace, for a home directory.
func ParseWorkspace(arg string) (Workspace, error) {
	path, readOnly := arg, false
	if cut, ok := strings.CutSuffix(arg, ":ro"); ok {
		path, readOnly = cut, true
	} else if cut, ok := strings.CutSuffix(arg, ":rw"); ok {
		path = cut
	}
	if path == "" {
		return Workspace{}, fmt.Errorf("workspace %q: the path is empty", arg)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return Workspace{}, fmt.Errorf("workspace %q: %w", path, err)
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return Workspace{}, fmt.Errorf("workspace %q: no such folder; create it with: mkdir -p %s", path, abs)
	}
	if err != nil {
		return Workspace{}, fmt.Errorf("workspace %q: %w", path, err)
	}
	if err := checkFolder(path, resolved); err != nil {
		return Workspace{}, err
	}
	w := Workspace{Path: resolved, ReadOnly: readOnly}
	return w, checkTarget(resolved)
}

func checkFolder(path, resolved string) error {
	st, err := os.Stat(resolved)
	if err != nil {
		return fmt.Errorf("workspace %q: %w", path, err)
	}
	if !st.IsDir() {
		return fmt.Errorf("workspace %q: it is a file; share the folder it is in: %s", path, filepath.Dir(resolved))
	}
	dir, err := os.Open(resolved)
	if err != nil {
		return fmt.Errorf("workspace %q: you can't read that folder: %w", path, err)
	}
	return dir.Close()
}

// guestSystem are folders that the guest needs for itself: a workspace appears
// at its own path and would hide them.
var guestSystem = []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr", "/run/sbx"}

// guestParents may hold workspaces but can't be one.
var guestParents = []string{"/", "/home", "/home/agent", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var"}

func checkTarget(path string) error {
	for _, dir := range guestSystem {
		if path == dir || inside(path, dir) && dir != "/usr" {
			return fmt.Errorf("workspace %s: the sandbox has system files of its own at that path; share a folder elsewhere", path)
		}
	}
	if home, err := os.UserHomeDir(); err == nil {
		if real, err := filepath.EvalSymlinks(home); err == nil && (path == real || inside(real, path)) {
			if path == "/" {
				return fmt.Errorf("workspace /: the whole file system can't be a workspace; share a project's folder")
			}
			return fmt.Errorf("workspace %s: %w: your home directory, with its keys and settings, is in it; share a project's folder, or insist with --force", path, ErrTooMuch)
		}
	}
	for _, dir := range guestParents {
		if path == dir {
			return fmt.Errorf("workspace %s: the sandbox has files of its own at that path; share a folder inside it", path)
		}
	}
	return nil
}

func inside(path, dir string) bool {
	return dir == "/" || strings.HasPrefix(path, dir+"/")
}

// Disjoint drops workspaces that another one contains, and refuses those that
// would be read-only by one path and writable by another.
func Disjoint(ws []Workspace) ([]Workspace, error) {
	var kept []Workspace
next:
	for i, w := range ws {
		for j, other := range ws {
			if i == j || w.Path != other.Path && !inside(w.Path, other.Path) {
				continue
			}
			if w.ReadOnly != other.ReadOnly {
				return nil, fmt.Errorf("workspaces %s and %s: one is inside the other, but only one is read-only; give both the same mode or share separate folders", w, other)
			}
			if w.Path != other.Path || j < i {
				continue next
			}
		}
		kept = append(kept, w)
	}
	return kept, nil
}
