package template

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// InUseError says that sandboxes live on a template.
type InUseError struct {
	Template  string
	Sandboxes []string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("template %q is in use by %s; remove these sandboxes first", e.Template, strings.Join(e.Sandboxes, ", "))
}

// Remove removes a name, and the template itself when no other name stands
// for it. Damaged templates can be removed. inUse returns the sandboxes on a
// template; if there are any, the error is an *[InUseError] and nothing
// changes. While it runs, nobody holds [Share].
func Remove(cache, nameOrID string, inUse func(id string) []string) error {
	s := storeOf(cache)
	release, err := s.lock(context.Background(), "lock")
	if err != nil {
		return err
	}
	defer release()
	name, id, err := s.resolve(nameOrID)
	var corrupt *CorruptError
	if errors.As(err, &corrupt) { // a name that stands for nothing
		return os.Remove(s.ref(nameOrID))
	}
	if err != nil {
		return err
	}
	refs, err := s.refs()
	if err != nil {
		return err
	}
	if _, err := os.Stat(s.dir(id)); errors.Is(err, fs.ErrNotExist) && name == "" {
		return fmt.Errorf("template %q: %w", nameOrID, ErrNotFound)
	}
	if boxes := inUse(id); len(boxes) > 0 {
		return &InUseError{Template: nameOrID, Sandboxes: boxes}
	}
	others := false
	for _, r := range refs {
		if r.id != id {
			continue
		}
		if name != "" && r.name != name {
			others = true
			continue
		}
		if err := os.Remove(s.ref(r.name)); err != nil {
			return fmt.Errorf("cannot remove the template %q: %w", nameOrID, err)
		}
	}
	if others {
		return nil
	}
	if err := s.discard(id); err != nil {
		return fmt.Errorf("cannot remove the template %q: %w", nameOrID, err)
	}
	return nil
}
