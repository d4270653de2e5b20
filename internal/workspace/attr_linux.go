package workspace

import (
	"math"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// fillAttr tells the guest what st says, except whose the file is.
func (f *FS) fillAttr(out *fuse.Attr, st *unix.Statx_t, n *node) {
	*out = fuse.Attr{
		Ino:       st.Ino ^ n.mix,
		Size:      st.Size,
		Blocks:    st.Blocks,
		Atime:     uint64(st.Atime.Sec),
		Mtime:     uint64(st.Mtime.Sec),
		Ctime:     uint64(st.Ctime.Sec),
		Atimensec: st.Atime.Nsec,
		Mtimensec: st.Mtime.Nsec,
		Ctimensec: st.Ctime.Nsec,
		Mode:      uint32(st.Mode),
		Nlink:     st.Nlink,
		Owner:     fuse.Owner{Uid: f.opts.Owner.UID, Gid: f.opts.Owner.GID},
		Rdev:      uint32(unix.Mkdev(st.Rdev_major, st.Rdev_minor)),
		Blksize:   st.Blksize,
	}
}

// rootAttr is the synthetic root: nobody but the guest's root may claim it, and
// nobody may write.
func (f *FS) rootAttr(out *fuse.Attr) {
	*out = fuse.Attr{Ino: fuse.FUSE_ROOT_ID, Mode: unix.S_IFDIR | 0555, Nlink: 2 + uint32(len(f.roots)), Blksize: 4096}
}

// fillEntry completes a successful lookup.
func (f *FS) fillEntry(out *fuse.EntryOut, st *unix.Statx_t, n *node) {
	out.NodeId = n.id
	out.Generation = 1
	out.SetEntryTimeout(f.opts.CacheTTL)
	out.SetAttrTimeout(f.opts.CacheTTL)
	f.fillAttr(&out.Attr, st, n)
}

// stat reads n's attributes, through its descriptor if it has one and by its
// name otherwise.
func (f *FS) stat(n *node, st *unix.Statx_t) fuse.Status {
	if d := n.desc.Load(); d != nil && d.ref() {
		defer d.unref()
		return statFD(d.fd, st)
	}
	loc := n.loc.Load()
	if loc == nil {
		return estale
	}
	pd, s := f.acquire(loc.parent)
	if !s.Ok() {
		return s
	}
	defer pd.unref()
	if s = statAt(pd.fd, loc.name, st); s.Ok() && !n.is(st) {
		return estale
	}
	return s
}

// statNode is stat by a number of the guest's, with the handle if it sent one.
func (f *FS) statNode(id uint64, hasFh bool, fh uint64, st *unix.Statx_t) (*node, fuse.Status) {
	n, s := f.node(id)
	if !s.Ok() || n.isRoot() {
		return n, s
	}
	if hasFh {
		h := f.handles.get(fh, id)
		if h == nil {
			return nil, fuse.EBADF
		}
		defer f.handles.put(h)
		return n, statFD(h.fd, st)
	}
	return n, f.stat(n, st)
}

// GetAttr implements fuse.RawFileSystem.
func (f *FS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	var st unix.Statx_t
	n, s := f.statNode(in.NodeId, in.Flags()&fuse.FUSE_GETATTR_FH != 0, in.Fh(), &st)
	if !s.Ok() {
		return s
	}
	f.answerAttr(out, &st, n)
	return fuse.OK
}

func (f *FS) answerAttr(out *fuse.AttrOut, st *unix.Statx_t, n *node) {
	out.SetTimeout(f.opts.CacheTTL)
	if n.isRoot() {
		f.rootAttr(&out.Attr)
	} else {
		f.fillAttr(&out.Attr, st, n)
	}
}

// Statx implements fuse.RawFileSystem. The kernel asks for it only when somebody
// wants the birth time.
func (f *FS) Statx(_ <-chan struct{}, in *fuse.StatxIn, out *fuse.StatxOut) fuse.Status {
	var st unix.Statx_t
	n, s := f.statNode(in.NodeId, in.GetattrFlags&fuse.FUSE_GETATTR_FH != 0, in.Fh, &st)
	if !s.Ok() {
		return s
	}
	out.SetTimeout(f.opts.CacheTTL)
	if n.isRoot() {
		st.Mask = unix.STATX_BASIC_STATS
		st.Mode, st.Nlink, st.Blksize = unix.S_IFDIR|0555, 2+uint32(len(f.roots)), 4096
		st.Ino = fuse.FUSE_ROOT_ID
		out.Statx.FromStatx(&st)
		return fuse.OK
	}
	st.Attributes, st.Attributes_mask = 0, 0
	out.Statx.FromStatx(&st)
	out.Ino ^= n.mix
	out.Uid, out.Gid = f.opts.Owner.UID, f.opts.Owner.GID
	out.DevMajor, out.DevMinor = 0, 0
	return fuse.OK
}

// SetAttr implements fuse.RawFileSystem. Owners are accepted and ignored.
func (f *FS) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	n, s := f.node(in.NodeId)
	if !s.Ok() {
		return s
	}
	if s = f.mayChange("setattr", n, ""); !s.Ok() {
		return s
	}
	var h *handle
	if in.Valid&fuse.FATTR_FH != 0 {
		if h, s = f.file(in.Fh, in.NodeId); !s.Ok() {
			return s
		}
		defer f.handles.put(h)
	}
	d, s := f.acquire(n)
	if !s.Ok() {
		return s
	}
	defer d.unref()
	if s = f.applyAttr(n, d, h, &in.SetAttrInCommon); !s.Ok() {
		return s
	}
	var st unix.Statx_t
	if s = statFD(d.fd, &st); !s.Ok() {
		return s
	}
	f.answerAttr(out, &st, n)
	return fuse.OK
}

func (f *FS) applyAttr(n *node, d *desc, h *handle, in *fuse.SetAttrInCommon) fuse.Status {
	if in.Valid&fuse.FATTR_MODE != 0 {
		if s := f.chmod(n, d, in.Mode); !s.Ok() {
			return s
		}
	}
	if in.Valid&fuse.FATTR_KILL_SUIDGID != 0 || in.Valid&fuse.FATTR_SIZE != 0 {
		if s := f.dropSetID(n, d.fd); !s.Ok() {
			return s
		}
	}
	if in.Valid&fuse.FATTR_SIZE != 0 {
		if s := f.truncate(n, d, h, in.Size); !s.Ok() {
			return s
		}
	}
	if in.Valid&(fuse.FATTR_ATIME|fuse.FATTR_MTIME) != 0 {
		return f.proc.utimes(d.fd, times(in))
	}
	return fuse.OK
}

// chmod sets permissions. Files never become setuid or setgid; a directory
// keeps the setgid bit that the host gave it.
func (f *FS) chmod(n *node, d *desc, mode uint32) fuse.Status {
	if n.ftype == unix.S_IFLNK {
		return fuse.ENOTSUP
	}
	if !n.isDir() {
		return f.proc.chmod(d.fd, mode&0777)
	}
	var st unix.Statx_t
	if s := statFD(d.fd, &st); !s.Ok() {
		return s
	}
	keep := uint32(st.Mode) & mode & unix.S_ISGID
	return f.proc.chmod(d.fd, mode&(0777|unix.S_ISVTX)|keep)
}

// dropSetID takes the setuid and setgid bits from a file of the host's that the
// guest is about to change. The kernel does so only for unprivileged writers.
func (f *FS) dropSetID(n *node, fd int) fuse.Status {
	if !n.isRegular() {
		return fuse.OK
	}
	var st unix.Statx_t
	if s := statFD(fd, &st); !s.Ok() {
		return s
	}
	if st.Mode&(unix.S_ISUID|unix.S_ISGID) == 0 {
		return fuse.OK
	}
	return f.proc.chmod(fd, uint32(st.Mode)&0777)
}

func (f *FS) truncate(n *node, d *desc, h *handle, size uint64) fuse.Status {
	if size > math.MaxInt64 {
		return fuse.EINVAL
	}
	if h != nil {
		if !h.write {
			return fuse.EBADF
		}
		return status(retry(func() error { return unix.Ftruncate(h.fd, int64(size)) }))
	}
	if n.isDir() {
		return fuse.EISDIR
	}
	if !n.isRegular() {
		return fuse.EINVAL
	}
	fd, s := f.reopen(d.fd, unix.O_WRONLY|unix.O_NONBLOCK, 0)
	if !s.Ok() {
		return s
	}
	defer unix.Close(fd)
	return status(retry(func() error { return unix.Ftruncate(fd, int64(size)) }))
}

func times(in *fuse.SetAttrInCommon) []unix.Timespec {
	ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: unix.UTIME_OMIT}}
	set := func(t *unix.Timespec, valid, now uint32, sec uint64, nsec uint32) {
		switch {
		case in.Valid&now != 0:
			t.Nsec = unix.UTIME_NOW
		case in.Valid&valid != 0:
			*t = unix.Timespec{Sec: int64(sec), Nsec: int64(min(nsec, 999_999_999))}
		}
	}
	set(&ts[0], fuse.FATTR_ATIME, fuse.FATTR_ATIME_NOW, in.Atime, in.Atimensec)
	set(&ts[1], fuse.FATTR_MTIME, fuse.FATTR_MTIME_NOW, in.Mtime, in.Mtimensec)
	return ts
}
