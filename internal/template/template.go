package template

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// ErrNotFound says that there is no template of that name or ID.
var ErrNotFound = errors.New("no such template")

// CorruptError says which file of a template is not what was recorded.
type CorruptError struct {
	Template string
	File     string
	Reason   string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("template %q is damaged: %s: %s; run `sbx setup` to make it anew", e.Template, e.File, e.Reason)
}

// Template is an image to start sandboxes from.
type Template struct {
	Name    string    // empty when no name stands for it
	ID      string    // SHA-256 of the image, in hex
	Image   string    // absolute path of the read-only raw ext4 image
	Size    int64     // of the image in bytes: the least size of a disk on it
	Created time.Time // when it was built
	Source  string    // what it was made from, for people

	recipe string
}

// record is the form of template.json.
type record struct {
	Version int       `json:"version"`
	Size    int64     `json:"size"`
	ModTime time.Time `json:"mod_time"`
	Created time.Time `json:"created"`
	Source  string    `json:"source"`
	Recipe  string    `json:"recipe,omitempty"` // hash of how it was made
}

const recordVersion = 1

const (
	imageFile  = "image.ext4"
	recordFile = "template.json"
	// minPrefix is how much of an ID is enough to name it.
	minPrefix = 8
)

var (
	validID   = regexp.MustCompile(`^[0-9a-f]{64}$`)
	validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,62}$`)
)

// Open finds a template by its name, its ID, or the first 8 digits or more of
// its ID, and checks that its image is what was recorded. The error is, or
// wraps, [ErrNotFound] or a *[CorruptError].
func Open(cache, nameOrID string) (*Template, error) {
	s := storeOf(cache)
	name, id, err := s.resolve(nameOrID)
	if err != nil {
		return nil, err
	}
	return s.open(name, id)
}

func (s store) open(name, id string) (*Template, error) {
	label := name
	if label == "" {
		label = id[:12]
	}
	file := filepath.Join(s.dir(id), recordFile)
	bad := func(file, reason string) error { return &CorruptError{Template: label, File: file, Reason: reason} }
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(s.dir(id)); errors.Is(err, fs.ErrNotExist) && name == "" {
			return nil, fmt.Errorf("template %q: %w", label, ErrNotFound)
		}
		return nil, bad(file, "it is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the template %q: %w", label, err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil || r.Version != recordVersion || r.Size <= 0 {
		return nil, bad(file, "it is not a template's record of this version of sbx")
	}
	t := &Template{Name: name, ID: id, Image: filepath.Join(s.dir(id), imageFile),
		Size: r.Size, Created: r.Created, Source: r.Source, recipe: r.Recipe}
	st, err := os.Stat(t.Image)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, bad(t.Image, "it is missing")
	case err != nil:
		return nil, fmt.Errorf("cannot read the template %q: %w", label, err)
	case !st.Mode().IsRegular():
		return nil, bad(t.Image, "it is not a regular file")
	case st.Size() != r.Size:
		return nil, bad(t.Image, fmt.Sprintf("it has %d bytes instead of %d", st.Size(), r.Size))
	case st.ModTime().Equal(r.ModTime):
		return t, nil
	}
	if err := t.Verify(context.Background()); err != nil {
		return nil, err
	}
	// A copy of the cache, perhaps. Without the right to write here, the
	// next Open just computes again.
	r.ModTime = st.ModTime()
	_ = r.write(file)
	return t, nil
}

func (r record) write(file string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(file, append(data, '\n'), 0o644)
}

// Verify reads the whole image and compares it with its ID. It takes seconds.
func (t *Template) Verify(ctx context.Context) error {
	sum, err := hashFile(ctx, t.Image)
	if err != nil {
		return fmt.Errorf("cannot check the template %q: %w", t.Name, err)
	}
	if sum != t.ID {
		return &CorruptError{Template: t.Name, File: t.Image, Reason: "its SHA-256 is " + sum + " instead of " + t.ID}
	}
	return nil
}

func hashFile(ctx context.Context, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, ctxReader{ctx, f}, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// ctxReader fails once its context has ended.
type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// List returns all templates, by name; those without one come last. Damaged
// ones are left out, the error says which and why.
func List(cache string) ([]Template, error) {
	s := storeOf(cache)
	refs, err := s.refs()
	if err != nil {
		return nil, err
	}
	ids, err := s.ids()
	if err != nil {
		return nil, err
	}
	named := map[string]bool{}
	var all []Template
	var bad []error
	add := func(name, id string) {
		t, err := s.open(name, id)
		if err != nil {
			bad = append(bad, err)
			return
		}
		all = append(all, *t)
	}
	for _, r := range refs {
		named[r.id] = true
		add(r.name, r.id)
	}
	for _, id := range ids {
		if !named[id] {
			add("", id)
		}
	}
	slices.SortStableFunc(all, func(a, b Template) int {
		if (a.Name == "") != (b.Name == "") {
			return strings.Compare(b.Name, a.Name)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return all, errors.Join(bad...)
}
