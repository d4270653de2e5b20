package workspace

import (
	"math"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// stamp is what a file looked like when it was opened. If it looks the same at
// the next open, what the guest has cached of it still holds.
type stamp struct {
	mtime, ctime unix.StatxTimestamp
	size         uint64
	settled      bool
}

// settleTime is the coarsest clock that a file's times may come from. A change
// within it after another may leave the times as they are.
const settleTime = 2 * time.Second

func stampOf(st *unix.Statx_t) stamp {
	age := time.Since(time.Unix(st.Ctime.Sec, int64(st.Ctime.Nsec)))
	return stamp{mtime: st.Mtime, ctime: st.Ctime, size: st.Size, settled: age > settleTime}
}

// unchanged reports whether the file is what it was at the last open, and
// records what it is now.
func (n *node) unchanged(st *unix.Statx_t) bool {
	now := stampOf(st)
	last := n.stamp.Load()
	if last != nil && *last == now {
		return now.settled
	}
	n.stamp.Store(&now)
	return false
}

// Open implements fuse.RawFileSystem.
func (f *FS) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, s := f.node(in.NodeId)
	if !s.Ok() {
		return s
	}
	if n.isDir() {
		return fuse.EISDIR
	}
	if !n.isRegular() {
		// The guest's kernel serves FIFOs, sockets and devices itself; opening
		// one here would have effects on the host.
		return f.refuse("open", n, "", "it is not a regular file", fuse.EACCES)
	}
	if in.Flags&(unix.O_ACCMODE|unix.O_TRUNC) != unix.O_RDONLY {
		if s = f.mayChange("open", n, ""); !s.Ok() {
			return s
		}
	}
	if !f.handles.reserve() {
		return enfile
	}
	if s = f.openFile(n, in.Flags, out); !s.Ok() {
		f.handles.cancel()
	}
	return s
}

// openFile opens a regular file, for which a handle is reserved. Of the guest's
// flags only the access mode and O_TRUNC have a meaning here.
func (f *FS) openFile(n *node, flags uint32, out *fuse.OpenOut) fuse.Status {
	access := flags & unix.O_ACCMODE
	if access == unix.O_ACCMODE {
		return fuse.EINVAL
	}
	write := access != unix.O_RDONLY
	f.cache.pin(n)
	fd, keep, s := f.openPinned(n, int(access), write, flags&unix.O_TRUNC != 0)
	if !s.Ok() {
		f.cache.unpin(n)
		return s
	}
	out.Fh = f.handles.add(n, fd, write).id
	if keep {
		out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	}
	return fuse.OK
}

func (f *FS) openPinned(n *node, access int, write, truncate bool) (fd int, keep bool, s fuse.Status) {
	d, s := f.acquire(n)
	if !s.Ok() {
		return -1, false, s
	}
	defer d.unref()
	if fd, s = f.reopen(d.fd, access|unix.O_NONBLOCK, 0); !s.Ok() {
		return -1, false, s
	}
	if write || truncate {
		s = f.dropSetID(n, fd)
	}
	if s.Ok() && truncate {
		s = f.truncate(n, d, nil, 0) // not with fd, which may be for reading
	}
	var st unix.Statx_t
	if s.Ok() {
		s = statFD(fd, &st)
	}
	if !s.Ok() {
		unix.Close(fd)
		return -1, false, s
	}
	return fd, n.unchanged(&st) && !truncate, fuse.OK
}

// Release implements fuse.RawFileSystem.
func (f *FS) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	f.handles.release(in.Fh, in.NodeId)
}

// reading is the answer to a READ: the data goes from the file to where it
// belongs without a stop, while the handle is held.
type reading struct {
	fs  *FS
	h   *handle
	off int64
	n   int
}

var readings = sync.Pool{New: func() any { return new(reading) }}

// Read implements fuse.RawFileSystem.
func (f *FS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	h, s := f.file(in.Fh, in.NodeId)
	if !s.Ok() {
		return nil, s
	}
	if in.Offset > math.MaxInt64-MaxRequest {
		f.handles.put(h)
		return nil, fuse.EINVAL
	}
	r := readings.Get().(*reading)
	*r = reading{f, h, int64(in.Offset), min(len(buf), int(in.Size))}
	return r, fuse.OK
}

// Size implements fuse.ReadResult.
func (r *reading) Size() int { return r.n }

// Done implements fuse.ReadResult.
func (r *reading) Done() {
	r.fs.handles.put(r.h)
	*r = reading{}
	readings.Put(r)
}

// Bytes implements fuse.ReadResult.
func (r *reading) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:min(len(buf), r.n)]
	n, s := r.readAt(buf, 0)
	return buf[:n], s
}

// Readv lets go-fuse's protocol server read straight into the guest's memory.
func (r *reading) Readv(dst [][]byte) (int, fuse.Status) {
	if len(dst) == 1 {
		return r.readAt(dst[0], 0)
	}
	for {
		n, err := unix.Preadv(r.h.fd, dst, r.off)
		if err != unix.EINTR {
			return max(n, 0), status(err)
		}
	}
}

func (r *reading) readAt(buf []byte, skip int64) (int, fuse.Status) {
	for {
		n, err := unix.Pread(r.h.fd, buf, r.off+skip)
		if err != unix.EINTR {
			return max(n, 0), status(err)
		}
	}
}

// Write implements fuse.RawFileSystem.
func (f *FS) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	return f.Writev(nil, in, [][]byte{data})
}

// Writev implements fuse.RawFileSystem.
func (f *FS) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	size := 0
	for _, b := range data {
		size += len(b)
	}
	if uint64(size) != uint64(in.Size) || in.Offset > math.MaxInt64-MaxRequest {
		return 0, fuse.EINVAL
	}
	h, s := f.file(in.Fh, in.NodeId)
	if !s.Ok() {
		return 0, s
	}
	defer f.handles.put(h)
	if !h.write {
		return 0, fuse.EBADF
	}
	if in.WriteFlags&fuse.WRITE_KILL_SUIDGID != 0 {
		if s = f.dropSetID(h.node, h.fd); !s.Ok() {
			return 0, s
		}
	}
	// The guest's kernel computes where an append goes from a size that the
	// host may have changed. What comes from its page cache has a fixed place.
	if in.Flags&unix.O_APPEND != 0 && in.WriteFlags&fuse.WRITE_CACHE == 0 {
		return written(h, data, int64(in.Offset), unix.RWF_APPEND)
	}
	return written(h, data, int64(in.Offset), 0)
}

func written(h *handle, data [][]byte, off int64, flags int) (uint32, fuse.Status) {
	for {
		var n int
		var err error
		if len(data) == 1 && flags == 0 {
			n, err = unix.Pwrite(h.fd, data[0], off)
		} else {
			n, err = unix.Pwritev2(h.fd, data, off, flags)
		}
		if err != unix.EINTR {
			return uint32(max(n, 0)), status(err)
		}
	}
}

// Fsync implements fuse.RawFileSystem.
func (f *FS) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h, s := f.file(in.Fh, in.NodeId)
	if !s.Ok() {
		return s
	}
	defer f.handles.put(h)
	return syncHandle(h, in.FsyncFlags)
}

// dataOnly is FUSE_FSYNC_FDATASYNC.
const dataOnly = 1

func syncHandle(h *handle, flags uint32) fuse.Status {
	if flags&dataOnly != 0 {
		return status(retry(func() error { return unix.Fdatasync(h.fd) }))
	}
	return status(retry(func() error { return unix.Fsync(h.fd) }))
}

// Flush implements fuse.RawFileSystem. Nothing waits to be written here, so
// the kernel is told not to ask again.
func (f *FS) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }
