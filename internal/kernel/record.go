package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sort"

	"github.com/google/renameio/v2"
)

// recordVersion is the version of the layout of a kernel's directory; others
// count as not there.
const recordVersion = 1

// record is kernel.json.
type record struct {
	Version int                 `json:"version"`
	Release string              `json:"release"`
	Arch    string              `json:"arch"`
	Source  string              `json:"source"`
	Input   string              `json:"input,omitempty"` // see inputKey
	Boot    []string            `json:"boot_modules"`    // in load order
	Missing []string            `json:"missing,omitempty"`
	Tree    string              `json:"modules_sha256"` // of what modules.img was made from
	Files   map[string]fileInfo `json:"files"`
}

// fileInfo is what a file was when it was prepared. Size and time are a cheap
// sign that it still is.
type fileInfo struct {
	Size   int64  `json:"size"`
	MTime  int64  `json:"mtime_ns"`
	SHA256 string `json:"sha256"`
}

// id hashes the content. modules.img counts by what it was made from: two
// images of the same files may differ.
func (r *record) id() string {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n%s\n%s\n%q\n", r.Version, r.Release, r.Arch, r.Tree, r.Boot)
	names := make([]string, 0, len(r.Files))
	for name := range r.Files {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		if name != fileModules {
			fmt.Fprintf(h, "%s %s\n", name, r.Files[name].SHA256)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// add records a finished file of dir.
func (r *record) add(dir, name string) error {
	f, err := describe(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	if r.Files == nil {
		r.Files = map[string]fileInfo{}
	}
	r.Files[name] = f
	return nil
}

func describe(path string) (fileInfo, error) {
	f, err := os.Open(path)
	if err != nil {
		return fileInfo{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fileInfo{}, err
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fileInfo{}, err
	}
	return fileInfo{Size: st.Size(), MTime: st.ModTime().UnixNano(), SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

// verify compares the content of the file at path and returns its description.
func (f fileInfo) verify(path string) (fileInfo, error) {
	now, err := describe(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return now, &CorruptError{path, "it is missing"}
	case err != nil:
		return now, &CorruptError{path, err.Error()}
	case now.Size != f.Size:
		return now, &CorruptError{path, fmt.Sprintf("it has %d bytes, not %d", now.Size, f.Size)}
	case now.SHA256 != f.SHA256:
		return now, &CorruptError{path, "its checksum is wrong"}
	}
	return now, nil
}

// load reads a kernel's directory. A missing one, or one of another version
// of sbx, is os.ErrNotExist.
func load(dir string) (*Kernel, error) {
	name := filepath.Join(dir, fileRecord)
	data, err := os.ReadFile(name)
	if err != nil {
		if _, statErr := os.Stat(dir); statErr == nil {
			return nil, &CorruptError{name, err.Error()}
		}
		return nil, err
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return nil, &CorruptError{name, err.Error()}
	}
	if r.Version != recordVersion {
		return nil, fmt.Errorf("%s is of version %d: %w", name, r.Version, os.ErrNotExist)
	}
	if _, ok := r.Files[fileVmlinux]; !ok {
		return nil, &CorruptError{name, "it lists no kernel"}
	}
	for file := range r.Files {
		if !filepath.IsLocal(file) {
			return nil, &CorruptError{name, "it lists a file outside of its directory"}
		}
	}
	return &Kernel{
		ID: filepath.Base(dir), Release: r.Release, Arch: r.Arch, Source: r.Source,
		Dir: dir, Missing: r.Missing, record: r,
	}, nil
}

// check compares sizes and times, and the content of what looks touched. What
// was merely copied gets its new time recorded.
func (k *Kernel) check() error {
	if k.Arch != runtime.GOARCH {
		return fmt.Errorf("kernel %s is for %s, this machine is %s", k.ID, k.Arch, runtime.GOARCH)
	}
	touched := false
	for name, f := range k.record.Files {
		path := filepath.Join(k.Dir, name)
		st, err := os.Stat(path)
		if err == nil && st.Size() == f.Size && st.ModTime().UnixNano() == f.MTime {
			continue
		}
		now, err := f.verify(path)
		if err != nil {
			return err
		}
		k.record.Files[name], touched = now, true
	}
	if touched {
		// Only saves time: on a cache that can't be written it is done again.
		_ = k.record.write(k.Dir)
	}
	return nil
}

func (r *record) write(dir string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, fileRecord), append(data, '\n'), 0o644)
}
