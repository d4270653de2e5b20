//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
)

// shareDir is where the share is mounted whole; its children are bound to
// where the workspaces belong. Only root can look into it.
const shareDir = "/run/sbx/share"

// mountShares mounts the virtiofs share and binds its children.
func mountShares(ctx context.Context, c control.Configure) error {
	if c.ShareTag == "" {
		return nil
	}
	if err := os.MkdirAll(shareDir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(filepath.Dir(shareDir), 0o700); err != nil {
		return err
	}
	if err := mountShare(ctx, c.ShareTag, shareDir); err != nil {
		return err
	}
	readAhead(shareDir)
	for _, m := range c.Mounts {
		if err := bind(filepath.Join(shareDir, m.Source), m.Target, m.ReadOnly); err != nil {
			return fmt.Errorf("mount the workspace on %s: %w", m.Target, err)
		}
	}
	return nil
}

// mountShare waits for the device, which may be hot-plugged later.
func mountShare(ctx context.Context, tag, dir string) error {
	var last error
	err := poll(ctx, func() bool {
		if !sharePresent(tag) {
			return false
		}
		last = unix.Mount(tag, dir, "virtiofs", unix.MS_NOSUID|unix.MS_NODEV, "")
		// EINVAL: no device with this tag. ENODEV: no such file system.
		return !errors.Is(last, unix.EINVAL)
	})
	if err != nil {
		return fmt.Errorf("the share %q did not appear: %w", tag, err)
	}
	if last != nil {
		return fmt.Errorf("mount the share %q: %w", tag, last)
	}
	return nil
}

// readAhead lets the kernel ask for up to 1 MiB at once when a file is read in
// order: each request saved is a round trip to the host. FUSE itself negotiates
// 128 KiB at most. Without it only speed is lost.
func readAhead(dir string) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return
	}
	bdi := fmt.Sprintf("/sys/class/bdi/%d:%d/read_ahead_kb", unix.Major(st.Dev), unix.Minor(st.Dev))
	os.WriteFile(bdi, []byte("1024"), 0)
}

// sharePresent saves the kernel's log from failed tries. Kernels before 6.9
// don't list the tags; there only trying helps.
func sharePresent(tag string) bool {
	if !exists("/sys/fs/virtiofs") {
		return true
	}
	files, _ := filepath.Glob("/sys/fs/virtiofs/*/tag")
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err == nil && strings.TrimSuffix(string(text), "\n") == tag {
			return true
		}
	}
	return false
}

// bind makes the directory source appear at target.
func bind(source, target string, readOnly bool) error {
	if st, err := os.Stat(source); err != nil {
		return fmt.Errorf("the host does not share it: %w", err)
	} else if !st.IsDir() {
		return errors.New("the host shares no directory under this name")
	}
	dir, err := makeDir("/", target)
	if err != nil {
		return err
	}
	defer dir.Close()
	// Through the descriptor, so that it is the directory just checked.
	at := fmt.Sprintf("/proc/self/fd/%d", dir.Fd())
	if err := unix.Mount(source, at, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	if !readOnly {
		return nil
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV)
	return unix.Mount("", target, "", flags, "")
}

// makeDir opens the directory path below root, making what is missing with
// mode 0755, and lets everybody pass through those above it: a workspace below
// /root, say, is the agent's. It follows no symlinks: the root disk may hold any.
func makeDir(root, path string) (*os.File, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	done := ""
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		done += "/" + name
		err := letPass(fd)
		next := -1
		if err == nil {
			next, err = enter(fd, name)
		}
		unix.Close(fd)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", done, err)
		}
		fd = next
	}
	return os.NewFile(uintptr(fd), path), nil
}

// letPass gives everybody the right to search the directory.
func letPass(dir int) error {
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return err
	}
	if st.Mode&0o001 != 0 {
		return nil
	}
	// An O_PATH descriptor can't be changed itself.
	return unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", dir), st.Mode&0o7777|0o111)
}

func enter(dir int, name string) (int, error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Openat(dir, name, flags, 0)
	if errors.Is(err, unix.ENOENT) {
		if err := unix.Mkdirat(dir, name, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
			return -1, err
		}
		fd, err = unix.Openat(dir, name, flags, 0)
	}
	if !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		return fd, err
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return -1, errors.New("is a symbolic link in the guest")
	}
	return -1, errors.New("is a file in the guest, not a directory")
}
