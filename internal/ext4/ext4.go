package ext4

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/renameio/v2"
)

// Defaults for the bounds in [Options].
const (
	DefaultMaxSize  = 64 << 30
	DefaultMaxFiles = 2_000_000
)

// Options say what kind of image to make. The zero value is a file system to
// live in: journal, some free space, a random UUID.
type Options struct {
	// MinSize is the least size of the file system in bytes. It is never less
	// than the content with an eighth of slack, and a multiple of 128 MiB.
	MinSize int64
	// MaxSize bounds the sum of the sizes of the archive's files, holes
	// included, in bytes. 0 means DefaultMaxSize.
	MaxSize int64
	// MaxFiles bounds the number of the archive's entries. 0 means
	// DefaultMaxFiles.
	MaxFiles int
	// ReadOnly makes an image that Linux refuses to mount writable: without
	// journal and without free space, as small as the content allows.
	ReadOnly bool
	// Label is the volume's name, at most 16 bytes.
	Label string
	// UUID identifies the file system; zero means a random one.
	UUID [16]byte
}

// FromTar reads a tar stream up to its end and writes an ext4 image to path.
//
// It is atomic: the image is written to a temporary file beside path, synced
// and renamed; on an error, or when ctx ends, path is as it was and nothing is
// left behind. The file's mode is 0644. A later entry of a name replaces the
// earlier one, as it does when an archive is extracted; two directories of one
// name are merged.
func FromTar(ctx context.Context, r io.Reader, path string, o Options) error {
	if err := o.complete(); err != nil {
		return err
	}
	f, err := renameio.NewPendingFile(path, renameio.WithStaticPermissions(0o644))
	if err != nil {
		return fmt.Errorf("cannot create the image %s: %w", path, err)
	}
	defer f.Cleanup() //nolint:errcheck // nothing to do about a temporary file that stays
	if err := write(ctx, r, f.File, o); err != nil {
		return fmt.Errorf("cannot make the image %s: %w", path, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("cannot finish the image %s: %w", path, err)
	}
	return nil
}

// write makes the image in f, which is empty.
func write(ctx context.Context, r io.Reader, f *os.File, o Options) error {
	w := newWriter(f, o)
	if err := w.readTar(ctx, tar.NewReader(r)); err != nil {
		return err
	}
	// What follows the end-of-archive mark is padding; a program that writes
	// into a pipe must not be killed for it.
	if _, err := io.Copy(io.Discard, io.LimitReader(r, 1<<20)); err != nil {
		return fmt.Errorf("reading the end of the archive: %w", err)
	}
	return w.finish(ctx)
}

func (o *Options) complete() error {
	if len(o.Label) > 16 {
		return fmt.Errorf("the volume label %q is longer than 16 bytes", o.Label)
	}
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	const max = 1 << 44 // 16 TiB: block numbers stay within 32 bits
	if o.MinSize < 0 || o.MaxSize < 0 || o.MinSize > max/2 || o.MaxSize > max/2 {
		return errors.New("the size of an image must be between 0 and 8 TiB")
	}
	if o.UUID == ([16]byte{}) {
		_, _ = rand.Read(o.UUID[:]) // never fails, see its documentation
		o.UUID[6] = o.UUID[6]&0x0f | 0x40
		o.UUID[8] = o.UUID[8]&0x3f | 0x80
	}
	return nil
}
