package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// store is the directory of templates.
type store struct{ root string }

func storeOf(cache string) store { return store{filepath.Join(cache, "templates")} }

func (s store) dir(id string) string   { return filepath.Join(s.root, id) }
func (s store) ref(name string) string { return filepath.Join(s.root, "refs", name) }
func (s store) tmp() string            { return filepath.Join(s.root, "tmp") }

func (s store) make() error {
	for _, d := range []string{s.root, filepath.Join(s.root, "refs"), s.tmp()} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("cannot make a directory for templates: %w", err)
		}
	}
	return nil
}

// resolve finds the name and ID that a user means.
func (s store) resolve(nameOrID string) (name, id string, err error) {
	missing := fmt.Errorf("template %q: %w", nameOrID, ErrNotFound)
	if validID.MatchString(nameOrID) {
		return "", nameOrID, nil
	}
	if !validName.MatchString(nameOrID) {
		return "", "", missing
	}
	switch id, err := s.readRef(nameOrID); {
	case err == nil:
		return nameOrID, id, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", "", err
	}
	if len(nameOrID) < minPrefix {
		return "", "", missing
	}
	ids, err := s.ids()
	if err != nil {
		return "", "", err
	}
	for _, have := range ids {
		if !strings.HasPrefix(have, nameOrID) {
			continue
		}
		if id != "" {
			return "", "", fmt.Errorf("template %q: more than one ID starts so; give more digits", nameOrID)
		}
		id = have
	}
	if id == "" {
		return "", "", missing
	}
	return "", id, nil
}

func (s store) readRef(name string) (id string, err error) {
	data, err := os.ReadFile(s.ref(name))
	if err != nil {
		return "", err
	}
	id = strings.TrimSpace(string(data))
	if !validID.MatchString(id) {
		return "", &CorruptError{Template: name, File: s.ref(name), Reason: "it holds no template's ID"}
	}
	return id, nil
}

type ref struct{ name, id string }

// refs lists the names in use; those that can't be read are left out.
func (s store) refs() ([]ref, error) {
	entries, err := readDir(filepath.Join(s.root, "refs"))
	if err != nil {
		return nil, err
	}
	var all []ref
	for _, e := range entries {
		if !validName.MatchString(e.Name()) {
			continue
		}
		if id, err := s.readRef(e.Name()); err == nil {
			all = append(all, ref{e.Name(), id})
		}
	}
	return all, nil
}

func (s store) ids() ([]string, error) {
	entries, err := readDir(s.root)
	if err != nil {
		return nil, err
	}
	var all []string
	for _, e := range entries {
		if e.IsDir() && validID.MatchString(e.Name()) {
			all = append(all, e.Name())
		}
	}
	return all, nil
}

// readDir is os.ReadDir for a directory that need not exist.
func readDir(dir string) ([]os.DirEntry, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// lockPoll is how often a lock that another process holds is tried.
const lockPoll = 100 * time.Millisecond

// Share keeps every template from being removed until release is called. Many
// may hold it at once.
func Share(ctx context.Context, cache string) (release func(), err error) {
	s := storeOf(cache)
	if err := s.make(); err != nil {
		return nil, err
	}
	l := flock.New(filepath.Join(s.root, "lock"))
	if _, err := l.TryRLockContext(ctx, lockPoll); err != nil {
		return nil, fmt.Errorf("cannot lock the templates in %s: %w", s.root, err)
	}
	return func() { _ = l.Close() }, nil
}

// lock excludes everybody else from what file guards.
func (s store) lock(ctx context.Context, file string) (release func(), err error) {
	if err := s.make(); err != nil {
		return nil, err
	}
	l := flock.New(filepath.Join(s.root, file))
	if _, err := l.TryLockContext(ctx, lockPoll); err != nil {
		return nil, fmt.Errorf("cannot lock the templates in %s: %w", s.root, err)
	}
	return func() { _ = l.Close() }, nil
}

// publish turns a directory of tmp that holds an image into a template, and
// lets name stand for it.
func (s store) publish(ctx context.Context, dir, name string, r record) (*Template, error) {
	image := filepath.Join(dir, imageFile)
	id, err := hashFile(ctx, image)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(image, 0o444); err != nil {
		return nil, err
	}
	st, err := os.Stat(image)
	if err != nil {
		return nil, err
	}
	r.Version, r.Size, r.ModTime, r.Created = recordVersion, st.Size(), st.ModTime(), time.Now().UTC()
	if err := r.write(filepath.Join(dir, recordFile)); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	if err := errors.Join(syncDir(dir), s.install(ctx, dir, id), s.writeRef(name, id)); err != nil {
		return nil, err
	}
	return s.open(name, id)
}

// install moves a finished template to its place. One that is there already
// and whole has the same content and stays: sandboxes may run on it.
func (s store) install(ctx context.Context, dir, id string) error {
	release, err := s.lock(ctx, "lock")
	if err != nil {
		return err
	}
	defer release()
	if old, err := s.open("", id); err == nil && old.Verify(ctx) == nil {
		return nil
	}
	if err := s.discard(id); err != nil {
		return err
	}
	if err := os.Rename(dir, s.dir(id)); err != nil {
		return err
	}
	return syncDir(s.root)
}

// discard removes a template's files, at once as far as others can see.
func (s store) discard(id string) error {
	trash, err := os.MkdirTemp(s.tmp(), "removed-")
	if err != nil {
		return err
	}
	err = os.Rename(s.dir(id), filepath.Join(trash, id))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(trash))
}

func (s store) writeRef(name, id string) error {
	if err := renameio.WriteFile(s.ref(name), []byte(id+"\n"), 0o644); err != nil {
		return err
	}
	return syncDir(filepath.Join(s.root, "refs"))
}

// syncDir makes renames in a directory last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
