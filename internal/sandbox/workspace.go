package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
var guestSystem = []string{
	"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/run/sbx",
	"/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/libx32", "/usr/sbin", "/usr/share",
}

// guestParents may hold workspaces but can't be one.
var guestParents = []string{
	"/", "/home", "/home/agent", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var",
	"/usr", "/usr/local", "/usr/local/bin", "/usr/local/lib", "/usr/src",
}

func checkTarget(path string) error {
	for _, dir := range guestSystem {
		if path == dir || inside(path, dir) {
			return fmt.Errorf("workspace %q: the sandbox has system files of its own at that path; share a folder elsewhere", path)
		}
	}
	home, err := os.UserHomeDir()
	if err == nil {
		home, err = filepath.EvalSymlinks(home)
	}
	isHome := err == nil && path == home
	if slices.Contains(guestParents, path) && !isHome {
		return fmt.Errorf("workspace %q: the sandbox has files of its own at that path; share a project's folder inside it", path)
	}
	if isHome || err == nil && inside(home, path) {
		return fmt.Errorf("workspace %q: %w: your home directory, with its keys and settings, is in it; share a project's folder, or insist with --force", path, ErrTooMuch)
	}
	return nil
}

func inside(path, dir string) bool {
	return dir == "/" || strings.HasPrefix(path, dir+"/")
}

// Distinct drops workspaces that are named twice, and refuses one inside another
// of the other mode: who can write to a folder can move what is in it, so the
// inner one's mode would not hold.
func Distinct(ws []Workspace) ([]Workspace, error) {
	var kept []Workspace
	for _, w := range ws {
		for _, k := range kept {
			overlap := k.Path == w.Path || inside(k.Path, w.Path) || inside(w.Path, k.Path)
			if overlap && k.ReadOnly != w.ReadOnly {
				return nil, fmt.Errorf("workspaces %q and %q overlap, but only one is read-only; give both the same mode, or share separate folders", k, w)
			}
		}
		if !slices.Contains(kept, w) {
			kept = append(kept, w)
		}
	}
	return kept, nil
}
