package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sbx/internal/progress"
)

// FromFile prepares a kernel of the user's own: vmlinux, bzImage, or on arm64
// an Image. modulesDir is its lib/modules/RELEASE; it is "" for a kernel that
// has everything built in. A repeat with the same files returns at once. The
// default kernel stays what it is; [SetDefault] changes it.
func FromFile(ctx context.Context, cache, file, modulesDir string) (*Kernel, error) {
	k, err := fromFile(ctx, cache, file, modulesDir)
	if err != nil {
		return nil, fmt.Errorf("cannot use the kernel %s: %w", file, err)
	}
	return k, nil
}

func fromFile(ctx context.Context, cache, file, modulesDir string) (*Kernel, error) {
	image, err := readKernel(file)
	if err != nil {
		return nil, err
	}
	in := ingredients{image: image, modules: modulesDir, wanted: bootModules}
	if in.source, err = filepath.Abs(file); err != nil {
		return nil, err
	}
	if in.input, err = inputKey(image, modulesDir); err != nil {
		return nil, err
	}
	if k := findInput(cache, in.input); k != nil {
		return k, nil
	}
	if modulesDir != "" {
		// A directory with another name than a release, such as a build's
		// output, is the user's own affair.
		if base := filepath.Base(filepath.Clean(modulesDir)); base[0] >= '0' && base[0] <= '9' {
			in.release = base
		}
	}
	w, err := openWorkshop(ctx, cache)
	if err != nil {
		return nil, err
	}
	defer w.close()
	return w.build(ctx, in, progress.Discard)
}

func readKernel(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	if st.Size() > maxKernel {
		return nil, fmt.Errorf("it has %d bytes, more than the %d allowed", st.Size(), maxKernel)
	}
	return os.ReadFile(file)
}

// inputKey tells the same files given again: by content for the kernel, by
// name, size and time for the modules.
func inputKey(image []byte, modulesDir string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%x\n", sha256.Sum256(image))
	if modulesDir == "" {
		return hex.EncodeToString(h.Sum(nil)), nil
	}
	err := filepath.WalkDir(modulesDir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(h, "%q %d %d\n", p, st.Size(), st.ModTime().UnixNano())
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("cannot read its modules: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// findInput returns the kernel that was prepared from the same files, if it is
// whole.
func findInput(cache, input string) *Kernel {
	all, err := List(cache)
	if err != nil {
		return nil
	}
	for _, k := range all {
		if k.record.Input == input && k.check() == nil {
			return k
		}
	}
	return nil
}
