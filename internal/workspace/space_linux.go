package workspace

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Lseek implements fuse.RawFileSystem, for holes: everything else is computed
// by the guest's kernel.
func (f *FS) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if in.Whence != unix.SEEK_DATA && in.Whence != unix.SEEK_HOLE || in.Offset > math.MaxInt64 {
		return fuse.EINVAL
	}
	h, s := f.file(in.Fh, in.NodeId)
	if !s.Ok() {
		return s
	}
	defer f.handles.put(h)
	// The descriptor's own position moves, but nothing uses it.
	off, err := unix.Seek(h.fd, int64(in.Offset), int(in.Whence))
	if err != nil {
		return status(err)
	}
	out.Offset = uint64(off)
	return fuse.OK
}

const fallocateModes = unix.FALLOC_FL_KEEP_SIZE | unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_ZERO_RANGE

// Fallocate implements fuse.RawFileSystem.
func (f *FS) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	if in.Mode&^uint32(fallocateModes) != 0 {
		return fuse.ENOTSUP
	}
	if in.Offset > math.MaxInt64 || in.Length > math.MaxInt64-in.Offset {
		return fuse.Status(unix.EFBIG)
	}
	h, s := f.file(in.Fh, in.NodeId)
	if !s.Ok() {
		return s
	}
	defer f.handles.put(h)
	if !h.write {
		return fuse.EBADF
	}
	return status(retry(func() error {
		return unix.Fallocate(h.fd, in.Mode, int64(in.Offset), int64(in.Length))
	}))
}

// maxCopy bounds how long one COPY_FILE_RANGE keeps a worker busy; the caller
// in the guest asks for the rest.
const maxCopy = 128 << 20

// CopyFileRange implements fuse.RawFileSystem.
func (f *FS) CopyFileRange(_ <-chan struct{}, in *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	if in.Flags != 0 || in.OffIn > math.MaxInt64-maxCopy || in.OffOut > math.MaxInt64-maxCopy {
		return 0, fuse.EINVAL
	}
	src, s := f.file(in.FhIn, in.NodeId)
	if !s.Ok() {
		return 0, s
	}
	defer f.handles.put(src)
	dst, s := f.file(in.FhOut, in.NodeIdOut)
	if !s.Ok() {
		return 0, s
	}
	defer f.handles.put(dst)
	if !dst.write {
		return 0, fuse.EBADF
	}
	offIn, offOut := int64(in.OffIn), int64(in.OffOut)
	n, err := unix.CopyFileRange(src.fd, &offIn, dst.fd, &offOut, int(min(in.Len, maxCopy)), 0)
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}

// Ioctl implements fuse.RawFileSystem: a file has no device behind it.
func (f *FS) Ioctl(<-chan struct{}, *fuse.IoctlIn, []byte, *fuse.IoctlOut, []byte) fuse.Status {
	return fuse.Status(unix.ENOTTY)
}
