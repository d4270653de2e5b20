package workspace

import (
	"errors"
	"strconv"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// These are the system calls of the hot paths, without the allocations of
// their general-purpose wrappers, and with the retry that EINTR needs.

const (
	statMask = unix.STATX_BASIC_STATS | unix.STATX_BTIME
	pathOnly = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC

	estale = fuse.Status(unix.ESTALE)
	enfile = fuse.Status(unix.ENFILE)
)

var emptyPath [1]byte

// statFD reads the attributes of the inode behind fd, which may be O_PATH.
func statFD(fd int, st *unix.Statx_t) fuse.Status {
	return statx(fd, &emptyPath[0], unix.AT_EMPTY_PATH, st)
}

// statAt reads the attributes of name in a directory, never through a link.
func statAt(dirfd int, name string, st *unix.Statx_t) fuse.Status {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return fuse.EINVAL
	}
	return statx(dirfd, p, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, st)
}

func statx(fd int, path *byte, flags int, st *unix.Statx_t) fuse.Status {
	for {
		_, _, e := unix.Syscall6(unix.SYS_STATX, uintptr(fd), uintptr(unsafe.Pointer(path)),
			uintptr(flags), statMask, uintptr(unsafe.Pointer(st)), 0)
		if e != unix.EINTR {
			return fuse.Status(e)
		}
	}
}

// openAt opens one component; flags must include O_NOFOLLOW or O_EXCL.
func openAt(dirfd int, name string, flags int, mode uint32) (int, fuse.Status) {
	p, err := unix.BytePtrFromString(name)
	if err != nil {
		return -1, fuse.EINVAL
	}
	return open(dirfd, p, flags, mode)
}

func open(dirfd int, path *byte, flags int, mode uint32) (int, fuse.Status) {
	for {
		fd, _, e := unix.Syscall6(unix.SYS_OPENAT, uintptr(dirfd), uintptr(unsafe.Pointer(path)),
			uintptr(flags), uintptr(mode), 0, 0)
		if e == 0 {
			return int(fd), fuse.OK
		}
		if e != unix.EINTR {
			return -1, fuse.Status(e)
		}
	}
}

// procFD is /proc/self/fd: through it a descriptor becomes a path that leads to
// exactly its inode, for the calls that know no AT_EMPTY_PATH.
type procFD int

func openProc() (*desc, error) {
	fd, err := unix.Open("/proc/self/fd", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return newDesc(fd), nil
}

// reopen opens the inode behind fd anew.
func (p procFD) reopen(fd, flags int, mode uint32) (int, fuse.Status) {
	var buf [24]byte
	name := strconv.AppendInt(buf[:0], int64(fd), 10)
	buf[len(name)] = 0
	return open(int(p), &buf[0], flags|unix.O_CLOEXEC, mode)
}

func (p procFD) chmod(fd int, mode uint32) fuse.Status {
	return status(unix.Fchmodat(int(p), strconv.Itoa(fd), mode, 0))
}

func (p procFD) utimes(fd int, ts []unix.Timespec) fuse.Status {
	return status(unix.UtimesNanoAt(int(p), strconv.Itoa(fd), ts, 0))
}

func (p procFD) link(fd, dirfd int, name string) fuse.Status {
	return status(unix.Linkat(int(p), strconv.Itoa(fd), dirfd, name, unix.AT_SYMLINK_FOLLOW))
}

// procPath is for the xattr calls, which take no directory descriptor.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// retry repeats a call that a signal interrupted.
func retry(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return fuse.Status(errno)
	}
	return fuse.EIO
}
