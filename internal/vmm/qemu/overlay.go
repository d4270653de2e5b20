package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// CreateOverlay makes the qcow2 image path, of size bytes, whose content is
// the raw image base until the guest writes. Only changes take space; base
// must not change or go away while path exists. The file appears whole or not
// at all; an existing one is replaced.
func CreateOverlay(ctx context.Context, inst *Installation, base, path string, size int64) error {
	if err := createOverlay(ctx, inst, base, path, size); err != nil {
		return fmt.Errorf("create disk %s: %w", path, err)
	}
	return nil
}

func createOverlay(ctx context.Context, inst *Installation, base, path string, size int64) error {
	if err := errors.Join(absolute("base", base), absolute("disk", path)); err != nil {
		return err
	}
	st, err := os.Stat(base)
	if err != nil {
		return fmt.Errorf("its base: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("its base %s is not a file", base)
	}
	if size < st.Size() {
		return fmt.Errorf("its size of %d bytes is less than the template's %d", size, st.Size())
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	defer tmp.Close()
	if err := runImageTool(ctx, inst, "create", "-q", "-f", "qcow2", "-b", base, "-F", "raw",
		tmp.Name(), strconv.FormatInt(size, 10)); err != nil {
		return err
	}
	if err := tmp.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

const errNoSpace = syscall.ENOSPC

func runImageTool(ctx context.Context, inst *Installation, args ...string) error {
	cmd := exec.CommandContext(ctx, inst.Image, args...)
	cmd.Env = []string{"LC_ALL=C"}
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	said := strings.TrimPrefix(string(bytes.TrimSpace(out)), "qemu-img: ")
	// The C library's words for ENOSPC, in the locale that we chose.
	if strings.Contains(said, "No space left on device") {
		return fmt.Errorf("%w; free some space or choose another place", errNoSpace)
	}
	return fmt.Errorf("qemu-img: %w: %s", err, said)
}
