package workspace

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const dirOnly = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC

// openReal opens the folder at an absolute path, and fails if any component of
// it is a symbolic link: whoever checked the path before may have seen another
// one.
func openReal(path string) (int, error) {
	fd, err := openNoSymlinks(path)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // Linux before 5.6, or a filter that is older
		fd, err = walkNoSymlinks(path)
	}
	switch {
	case err == nil:
		return fd, nil
	case errors.Is(err, unix.ELOOP):
		return -1, errors.New("a symbolic link is, or came to be, in its path; name the folder that it leads to")
	case errors.Is(err, unix.ENOTDIR):
		return -1, errors.New("is not a folder, or a symbolic link")
	}
	return -1, fmt.Errorf("failed to open: %w", err)
}

func openNoSymlinks(path string) (fd int, err error) {
	how := unix.OpenHow{Flags: dirOnly, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS}
	err = retry(func() error {
		fd, err = unix.Openat2(unix.AT_FDCWD, path, &how)
		return err
	})
	return fd, err
}

// walkNoSymlinks does the same one component at a time.
func walkNoSymlinks(path string) (int, error) {
	fd, err := unix.Open("/", dirOnly, 0)
	if err != nil {
		return -1, err
	}
	for part := range strings.SplitSeq(filepath.Clean(path), "/") {
		if part == "" {
			continue
		}
		next, s := openAt(fd, part, dirOnly|unix.O_NOFOLLOW, 0)
		unix.Close(fd)
		if !s.Ok() {
			return -1, unix.Errno(s)
		}
		fd = next
	}
	return fd, nil
}
