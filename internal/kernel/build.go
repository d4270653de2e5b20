package kernel

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"

	"sbx/internal/ext4"
	"sbx/internal/progress"
)

// tmpPrefix marks what is being made; the next run removes what is left.
const tmpPrefix = ".tmp-"

// workshop is a temporary directory in the cache, held by one process at a
// time: whoever has the lock owns everything that is unfinished.
type workshop struct {
	kernels, dir string
	lock         *flock.Flock
}

func openWorkshop(ctx context.Context, cache string) (*workshop, error) {
	w := &workshop{kernels: kernelsDir(cache)}
	if err := os.MkdirAll(w.kernels, 0o755); err != nil {
		return nil, fmt.Errorf("cannot make the kernels' directory: %w", err)
	}
	w.lock = flock.New(filepath.Join(w.kernels, ".lock"))
	if _, err := w.lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return nil, fmt.Errorf("cannot lock the kernels' directory: %w", err)
	}
	if err := w.clean(); err != nil {
		w.lock.Close()
		return nil, err
	}
	dir, err := os.MkdirTemp(w.kernels, tmpPrefix)
	if err != nil {
		w.lock.Close()
		return nil, fmt.Errorf("cannot prepare a kernel: %w", err)
	}
	w.dir = dir
	return w, nil
}

func (w *workshop) clean() error {
	left, _ := filepath.Glob(filepath.Join(w.kernels, tmpPrefix+"*")) // the pattern is right
	for _, l := range left {
		// apt may outlive a killed run for a moment and still write there;
		// then the run after this one removes it.
		if err := os.RemoveAll(l); err != nil && !errors.Is(err, syscall.ENOTEMPTY) {
			return fmt.Errorf("cannot remove what an interrupted run left: %w", err)
		}
	}
	return nil
}

func (w *workshop) close() error {
	return errors.Join(os.RemoveAll(w.dir), w.lock.Close())
}

// ingredients are what a kernel is made from.
type ingredients struct {
	image   []byte // in any form that kernels are shipped in
	modules string // directory; "" for none
	release string // expected; "" for whatever the image says
	source  string
	input   string // see inputKey
	wanted  []bootModule
}

// build makes a kernel's directory in the workshop and moves it to its place.
func (w *workshop) build(ctx context.Context, in ingredients, report progress.Func) (*Kernel, error) {
	report("unpacking the kernel", 0, 0)
	out := filepath.Join(w.dir, "out")
	if err := os.MkdirAll(filepath.Join(out, dirBoot), 0o755); err != nil {
		return nil, err
	}
	r := &record{Version: recordVersion, Arch: runtime.GOARCH, Source: in.source, Input: in.input}
	var err error
	if r.Release, err = makeVmlinux(filepath.Join(out, fileVmlinux), in.image); err != nil {
		return nil, err
	}
	if in.release != "" && in.release != r.Release {
		return nil, fmt.Errorf("the kernel is release %s, its modules are for %s", r.Release, in.release)
	}
	if err := r.add(out, fileVmlinux); err != nil {
		return nil, err
	}
	if in.modules != "" {
		if err := r.addModules(ctx, out, in, report); err != nil {
			return nil, err
		}
	}
	return w.publish(out, r)
}

func makeVmlinux(path string, image []byte) (string, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := writeVmlinux(f, image, runtime.GOARCH); err != nil {
		return "", err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	rel, err := release(f)
	if err != nil {
		return "", err
	}
	return rel, errors.Join(f.Sync(), f.Close())
}

// addModules puts the boot modules and the image of all modules into out.
func (r *record) addModules(ctx context.Context, out string, in ingredients, report progress.Func) error {
	report("reading the kernel's modules", 0, 0)
	t, err := readTree(ctx, in.modules)
	if err != nil {
		return err
	}
	load, missing, err := resolveBoot(t, in.wanted)
	if err != nil {
		return err
	}
	r.Missing = missing
	for _, m := range load {
		ko, err := t.unpack(m.path)
		if err != nil {
			return err
		}
		name := m.name + ".ko"
		if err := writeSynced(filepath.Join(out, dirBoot, name), ko); err != nil {
			return err
		}
		if err := r.add(out, filepath.Join(dirBoot, name)); err != nil {
			return err
		}
		r.Boot = append(r.Boot, name)
	}
	generated, err := t.depmod()
	if err != nil {
		return err
	}
	report("packing the kernel's modules", 0, 0)
	if r.Tree, err = t.writeImage(ctx, filepath.Join(out, fileModules), generated); err != nil {
		return err
	}
	return r.add(out, fileModules)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// writeImage makes the ext4 image and returns the hash of what went into it.
func (t *tree) writeImage(ctx context.Context, path string, generated map[string][]byte) (string, error) {
	pr, pw := io.Pipe()
	h := sha256.New()
	done := make(chan struct{})
	go func() {
		defer close(done)
		pw.CloseWithError(t.writeTar(io.MultiWriter(pw, h), generated))
	}()
	err := ext4.FromTar(ctx, pr, path, ext4.Options{ReadOnly: true, Label: "sbx-modules"})
	if err == nil {
		// What follows the archive's end belongs to the stream as well.
		_, err = io.Copy(io.Discard, pr)
	}
	pr.CloseWithError(context.Canceled)
	<-done
	if err != nil {
		return "", fmt.Errorf("cannot make the image of the kernel's modules: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// writeTar writes the tree, with the generated files in place of those of the
// same name, as root's and of one fixed time.
func (t *tree) writeTar(w io.Writer, generated map[string][]byte) error {
	names := map[string]bool{}
	for _, f := range t.files {
		names[f] = true
	}
	for f := range generated {
		names[f] = true
	}
	sorted := make([]string, 0, len(names))
	for f := range names {
		sorted = append(sorted, f)
	}
	sort.Strings(sorted)

	tw := tar.NewWriter(w)
	if err := tw.WriteHeader(dirHeader("./")); err != nil {
		return err
	}
	made := map[string]bool{".": true}
	for _, name := range sorted {
		if err := writeParents(tw, name, made); err != nil {
			return err
		}
		data, ok := generated[name]
		if !ok {
			var err error
			if data, err = os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(name))); err != nil {
				return err
			}
		}
		h := &tar.Header{Typeflag: tar.TypeReg, Name: "./" + name, Mode: 0o644, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
		if err := tw.WriteHeader(h); err != nil {
			return err
		}
		if _, err := tw.Write(data); err != nil {
			return err
		}
	}
	return tw.Close()
}

func dirHeader(name string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: time.Unix(0, 0)}
}

func writeParents(tw *tar.Writer, name string, made map[string]bool) error {
	parts := strings.Split(name, "/")
	for i := 1; i < len(parts); i++ {
		dir := strings.Join(parts[:i], "/")
		if made[dir] {
			continue
		}
		made[dir] = true
		if err := tw.WriteHeader(dirHeader("./" + dir + "/")); err != nil {
			return err
		}
	}
	return nil
}

// publish gives the finished directory its name. One that has it already is
// kept when it is whole, and replaced when it is not.
func (w *workshop) publish(out string, r *record) (*Kernel, error) {
	if err := r.write(out); err != nil {
		return nil, err
	}
	final := filepath.Join(w.kernels, r.id())
	if k, err := load(final); err == nil && k.check() == nil {
		return k, nil
	}
	// A guest that runs from the damaged one keeps its open files.
	if err := os.Rename(final, filepath.Join(w.dir, "damaged")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot replace the kernel %s: %w", final, err)
	}
	if err := errors.Join(syncDir(filepath.Join(out, dirBoot)), syncDir(out)); err != nil {
		return nil, err
	}
	if err := os.Rename(out, final); err != nil {
		return nil, fmt.Errorf("cannot put the kernel in its place: %w", err)
	}
	if err := syncDir(w.kernels); err != nil {
		return nil, err
	}
	return load(final)
}

// setDefault makes k what [Open] returns.
func (w *workshop) setDefault(k *Kernel) error {
	if err := renameio.WriteFile(filepath.Join(w.kernels, "default"), []byte(k.ID+"\n"), 0o644); err != nil {
		return fmt.Errorf("cannot record the default kernel: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
