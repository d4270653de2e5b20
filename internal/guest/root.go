//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
	"sbx/internal/ext4"
	"sbx/internal/guest/account"
)

const newRoot = "/newroot"

// rootOptions: a damaged file system becomes read-only instead of worse; freed
// blocks are given back to the host's image.
const rootOptions = "errors=remount-ro,discard"

// enterRoot mounts the root disk and makes it the root directory.
func (i *initd) enterRoot(ctx context.Context, c control.Configure) error {
	if err := os.MkdirAll(newRoot, 0o755); err != nil {
		return err
	}
	if err := mountDisk(ctx, c.RootDevice, newRoot, unix.MS_NOATIME, rootOptions); err != nil {
		return err
	}
	if err := mountModules(ctx, c.ModulesDevice); err != nil {
		return err
	}
	if err := switchRoot(newRoot, []string{"/dev", "/proc", "/sys"}); err != nil {
		return fmt.Errorf("switch to the root disk: %w", err)
	}
	i.rootDisk.Store(true)
	// In the background: it takes a while for a large disk, and too small a
	// file system is better than no sandbox.
	go func() {
		if err := ext4.Grow(context.Background(), "/", c.RootDevice); err != nil {
			i.log.Warn(err.Error())
		}
	}()
	return nil
}

// mountModules mounts the kernel's modules where modprobe looks for them.
func mountModules(ctx context.Context, device string) error {
	if device == "" {
		return nil
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	dir := filepath.Join(newRoot, "usr/lib/modules", unix.ByteSliceToString(u.Release[:]))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return mountDisk(ctx, device, dir, unix.MS_RDONLY|unix.MS_NODEV|unix.MS_NOSUID, "")
}

// switchRoot moves the given mounts below root, empties the initramfs, whose
// memory would be lost otherwise, and makes root the root directory of this
// process and all its threads. PID 1 goes on from its deleted file.
func switchRoot(root string, moves []string) error {
	for _, m := range moves {
		target := filepath.Join(root, m)
		if err := os.MkdirAll(target, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m, target, "", unix.MS_MOVE, ""); err != nil {
			return fmt.Errorf("move %s: %w", m, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat("/", &st); err != nil {
		return err
	}
	empty("/", st.Dev)
	if err := unix.Chdir(root); err != nil {
		return err
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return err
	}
	if err := unix.Chroot("."); err != nil {
		return err
	}
	return unix.Chdir("/")
}

// empty removes everything below dir that lies on the device dev.
func empty(dir string, dev uint64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil || st.Dev != dev {
			continue
		}
		if e.IsDir() {
			empty(path, dev)
		}
		os.Remove(path)
	}
}

// mountSystem mounts what a Linux system expects to find.
func mountSystem(user account.User) error {
	const safe = unix.MS_NOSUID | unix.MS_NODEV
	if err := mountAll([]mountPoint{
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe | unix.MS_NOEXEC, "nsdelegate,memory_recursiveprot"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"shm", "/dev/shm", "tmpfs", safe, "mode=1777"},
		{"mqueue", "/dev/mqueue", "mqueue", safe | unix.MS_NOEXEC, ""},
		{"tmpfs", "/run", "tmpfs", safe, "mode=0755,size=20%"},
		{"tmpfs", "/run/lock", "tmpfs", safe | unix.MS_NOEXEC, "mode=1777,size=5m"},
		{"tmpfs", "/tmp", "tmpfs", safe, "mode=1777,size=50%"},
	}); err != nil {
		return err
	}
	if supports("binfmt_misc") {
		mountAll([]mountPoint{{"binfmt_misc", "/proc/sys/fs/binfmt_misc", "binfmt_misc", safe | unix.MS_NOEXEC, ""}})
	}
	links := map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0",
		"/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	}
	for name, target := range links {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return runtimeDirs(user)
}

// runtimeDirs makes what login managers make below /run.
func runtimeDirs(user account.User) error {
	own := fmt.Sprintf("/run/user/%d", user.UID)
	if err := os.MkdirAll(own, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(own, 0o700); err != nil {
		return err
	}
	return os.Chown(own, int(user.UID), int(user.GID))
}
