package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"sbx/internal/dirs"
)

var (
	// ErrNotFound says that there is no sandbox of a name.
	ErrNotFound = errors.New("no such sandbox")
	// ErrExists says that a name is taken.
	ErrExists = errors.New("the name is taken")
)

// tempPrefix starts the names of directories that are being made or removed;
// no sandbox's name starts with a dot.
const tempPrefix = ".tmp-"

// Store is the set of one user's sandboxes. It holds no state: any number of
// processes may use one at once.
type Store struct {
	dirs dirs.Dirs
}

// Open makes the store's directory if it is missing.
func Open(d dirs.Dirs) (*Store, error) {
	if err := dirs.Private(d.State); err != nil {
		return nil, err
	}
	if err := dirs.Private(d.Sandboxes()); err != nil {
		return nil, err
	}
	return &Store{dirs: d}, nil
}

// Dir is where a sandbox keeps its lasting files.
func (s *Store) Dir(name string) string { return filepath.Join(s.dirs.Sandboxes(), name) }

// RuntimeDir is where a running sandbox has its sockets.
func (s *Store) RuntimeDir(name string) string { return filepath.Join(s.dirs.Runtime, name) }

// Disk is the path of a sandbox's disk.
func (s *Store) Disk(name string) string { return filepath.Join(s.Dir(name), "disk.qcow2") }

// Get reads a record. The error wraps ErrNotFound or ErrDamaged.
func (s *Store) Get(name string) (*Record, error) {
	if err := CheckName(name); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrNotFound, err)
	}
	r, err := readRecord(s.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		if _, statErr := os.Lstat(s.Dir(name)); statErr == nil {
			return nil, fmt.Errorf("%w %s: sandbox.json is missing; remove the sandbox with: sbx rm -f %s", ErrDamaged, s.Dir(name), name)
		}
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	return r, err
}

// Names lists the sandboxes by name, damaged ones included, sorted.
func (s *Store) Names() ([]string, error) {
	entries, err := os.ReadDir(s.dirs.Sandboxes())
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	sort.Strings(names)
	return names, nil
}

// Create adds a sandbox: populate fills its directory, then it appears all at
// once under its name. An error, which wraps ErrExists when the name is taken,
// leaves nothing behind. The new sandbox is stopped.
func (s *Store) Create(r *Record, populate func(dir string) error) (err error) {
	if err := CheckName(r.Name); err != nil {
		return err
	}
	if _, err := os.Lstat(s.Dir(r.Name)); err == nil {
		return fmt.Errorf("sandbox %q: %w", r.Name, ErrExists)
	}
	tmp, err := os.MkdirTemp(s.dirs.Sandboxes(), tempPrefix+r.Name+"-")
	if err != nil {
		return fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(tmp)
		}
	}()
	lock, err := acquire(tmp) // tells Sweep that somebody works here
	if err != nil {
		return fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	defer lock.Release()
	r.Version = recordVersion
	if err := populate(tmp); err != nil {
		return err
	}
	if err := writeRecord(tmp, r); err != nil {
		return fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	// A rename onto a directory that isn't empty fails: one creator wins.
	err = os.Rename(tmp, s.Dir(r.Name))
	if errors.Is(err, syscall.ENOTEMPTY) || errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("sandbox %q: %w", r.Name, ErrExists)
	}
	if err != nil {
		return err
	}
	return syncDir(s.dirs.Sandboxes())
}

// Lock takes the lock of a sandbox that nobody runs, else ErrLocked.
func (s *Store) Lock(name string) (*Lock, error) {
	lock, err := acquire(s.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	return lock, err
}

// LockWait waits until the sandbox is nobody's, then takes its lock.
func (s *Store) LockWait(ctx context.Context, name string) (*Lock, error) {
	lock, err := acquireWait(ctx, s.Dir(name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	return lock, err
}

// LockSoon is Lock with a moment's patience, for a holder that is just
// beginning or ending.
func (s *Store) LockSoon(ctx context.Context, name string) (*Lock, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 50*time.Millisecond, ErrLocked)
	defer cancel()
	lock, err := s.LockWait(ctx, name)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return lock, err
}

// Locked says whether somebody holds the lock, without touching it.
func (s *Store) Locked(name string) bool { return locked(s.Dir(name)) }

// Remove deletes a sandbox's files, record first. The caller holds its lock,
// which stays valid until released.
func (s *Store) Remove(name string) error {
	// Before the name is free for another.
	if err := os.RemoveAll(s.RuntimeDir(name)); err != nil {
		return fmt.Errorf("sandbox %q: %w", name, err)
	}
	tmp := filepath.Join(s.dirs.Sandboxes(), tempPrefix+name+"-rm-"+NewID()[:8])
	if err := os.Rename(s.Dir(name), tmp); err != nil {
		return fmt.Errorf("sandbox %q: cannot remove it: %w", name, err)
	}
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("sandbox %q: %w", name, err)
	}
	return nil
}

// Sweep deletes what crashed creations and removals left over, and the runtime
// directories of sandboxes that don't run. It says how many it found.
func (s *Store) Sweep() (int, error) {
	n, err := s.sweepTemporary()
	if err != nil {
		return n, err
	}
	entries, err := os.ReadDir(s.dirs.Runtime)
	if errors.Is(err, fs.ErrNotExist) {
		return n, nil
	}
	if err != nil {
		return n, err
	}
	for _, e := range entries {
		if !e.IsDir() || CheckName(e.Name()) != nil {
			continue
		}
		if s.sweepRuntime(e.Name()) {
			n++
		}
	}
	return n, nil
}

func (s *Store) sweepTemporary() (int, error) {
	entries, err := os.ReadDir(s.dirs.Sandboxes())
	if err != nil {
		return 0, err
	}
	n := 0
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), tempPrefix) {
			continue
		}
		dir := filepath.Join(s.dirs.Sandboxes(), e.Name())
		if !abandoned(dir) {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// abandoned takes the lock of a temporary directory. Its maker creates the
// directory an instant before the lock: one without a lock file is left alone
// until it is a minute old.
func abandoned(dir string) bool {
	if _, err := os.Lstat(filepath.Join(dir, lockName)); err != nil {
		st, err := os.Lstat(dir)
		return err == nil && olderThanAMinute(st)
	}
	lock, err := acquire(dir)
	if err != nil {
		return false
	}
	lock.Release()
	return true
}

func (s *Store) sweepRuntime(name string) bool {
	dir := s.RuntimeDir(name)
	lock, err := s.Lock(name)
	switch {
	case errors.Is(err, ErrNotFound):
		// Somebody may be creating and starting one of that name right now.
		if st, err := os.Lstat(dir); err != nil || !olderThanAMinute(st) {
			return false
		}
	case err != nil:
		return false
	default:
		defer lock.Release()
	}
	return os.RemoveAll(dir) == nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
