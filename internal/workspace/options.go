package workspace

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
)

// Folder is one host folder that the guest may see.
type Folder struct {
	// Name is the folder's name in the synthetic root: one path component.
	Name string
	// Path is the host folder: absolute, and real (no symbolic link in it).
	Path string
	// ReadOnly folders answer every change with EROFS.
	ReadOnly bool
}

// Owner is who files belong to in the guest.
type Owner struct{ UID, GID uint32 }

// Refusal is an operation that was denied because of what it tried, not
// because it happened to fail.
type Refusal struct {
	Op     string // the FUSE operation, in lower case
	Path   string // quoted, as far as it is known, at most a few hundred bytes
	Reason string
}

// Options change how folders are served. The zero value works.
type Options struct {
	Owner Owner
	// Log receives what is worth knowing for diagnosis. Nil discards.
	Log *slog.Logger
	// Refused is called for each refusal, from many goroutines and as often as
	// the guest tries: it must return quickly and limit its own rate.
	Refused func(Refusal)
	// CacheTTL is how long the guest may trust an attribute, an entry or the
	// absence of one. 0 means 900 ms; more than a second becomes a second.
	CacheTTL time.Duration
	// MaxDescriptors bounds the descriptors in use. 0 means half of the
	// process's soft limit (RLIMIT_NOFILE), so raise that before.
	MaxDescriptors int
	// MaxNodes bounds the files that the guest's kernel may hold on to at once.
	// 0 means a million, about 600 MB of memory at worst (long names).
	MaxNodes int
}

const (
	defaultTTL      = 900 * time.Millisecond
	maxTTL          = time.Second
	defaultMaxNodes = 1 << 20
	nameMax         = 255
)

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Refused == nil {
		o.Refused = func(Refusal) {}
	}
	if o.CacheTTL <= 0 {
		o.CacheTTL = defaultTTL
	}
	o.CacheTTL = min(o.CacheTTL, maxTTL)
	if o.MaxNodes <= 0 {
		o.MaxNodes = defaultMaxNodes
	}
	return o
}

var errNoFolders = errors.New("workspace: no folder given")

// checkFolders finds mistakes of the caller; what is on disk is checked later.
func checkFolders(folders []Folder) error {
	seen := make(map[string]bool, len(folders))
	for _, f := range folders {
		if !validName(f.Name) {
			return fmt.Errorf("workspace folder %q: %q is not a usable name", f.Path, f.Name)
		}
		if seen[f.Name] {
			return fmt.Errorf("workspace folder %q: the name %q is used twice", f.Path, f.Name)
		}
		seen[f.Name] = true
		if !filepath.IsAbs(f.Path) {
			return fmt.Errorf("workspace folder %q: the path must be absolute", f.Path)
		}
	}
	return nil
}

// validName reports whether name is one component that names something other
// than its directory and its parent.
func validName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= nameMax &&
		strings.IndexByte(name, '/') < 0 && strings.IndexByte(name, 0) < 0
}
