package workspace

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Create implements fuse.RawFileSystem.
func (f *FS) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	p, s := f.enterDir("create", in.NodeId, name)
	if !s.Ok() {
		return s
	}
	if in.Flags&unix.O_ACCMODE == unix.O_ACCMODE {
		return fuse.EINVAL
	}
	pd, s := f.acquire(p)
	if !s.Ok() {
		return s
	}
	defer pd.unref()
	if !f.handles.reserve() {
		return enfile
	}
	// A few rounds, because the host may remove and make the file meanwhile.
	for range 4 {
		if s = f.createNew(p, pd, in, name, out); s != fuse.Status(unix.EEXIST) {
			break
		}
		if in.Flags&unix.O_EXCL != 0 {
			break
		}
		if s = f.createExisting(p, pd, in, name, out); s != fuse.ENOENT {
			break
		}
	}
	if !s.Ok() {
		f.handles.cancel()
	}
	return s
}

// createNew makes the file. With O_EXCL the host's kernel follows nothing and
// opens nothing that exists.
func (f *FS) createNew(p *node, pd *desc, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	if !f.visible(p, name) {
		return fuse.EACCES
	}
	flags := int(in.Flags&unix.O_ACCMODE) | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, s := openAt(pd.fd, name, flags, in.Mode&0777)
	if s == fuse.Status(unix.EMFILE) {
		f.cache.relieve()
		fd, s = openAt(pd.fd, name, flags, in.Mode&0777)
	}
	if !s.Ok() {
		return short(s)
	}
	return f.opened(p, p, name, fd, in, out)
}

// opened makes a file that was just created near p a node and a handle. Without
// a name, parent is nil.
func (f *FS) opened(p, parent *node, name string, fd int, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	if mode := in.Mode & 0777; mode&f.umask != 0 {
		_ = unix.Fchmod(fd, mode) // at worst the mode is narrower than asked for
	}
	var st unix.Statx_t
	s := statFD(fd, &st)
	var n *node
	if s.Ok() {
		mix := p.mix
		if k := inodeOf(&st); k.dev != p.key.dev { // overlayfs without xino
			mix = f.devices.get(k.dev, fd, "").mix
		}
		if n = f.nodes.enter(key{p.key.dom, inodeOf(&st)}, &st, mix, parent, name); n == nil {
			s = enfile
		}
	}
	if s.Ok() {
		s = f.keepOpen(n, fd)
	}
	if !s.Ok() {
		unix.Close(fd)
		return s
	}
	h := f.handles.add(n, fd, in.Flags&unix.O_ACCMODE != unix.O_RDONLY)
	f.fillEntry(&out.EntryOut, &st, n)
	out.Fh = h.id
	return fuse.OK
}

// keepOpen pins n with a descriptor made from fd, so that n can be used when
// the file has lost its name.
func (f *FS) keepOpen(n *node, fd int) fuse.Status {
	f.cache.pin(n)
	if n.desc.Load() != nil {
		return fuse.OK
	}
	pfd, s := f.reopen(fd, unix.O_PATH, 0)
	if !s.Ok() {
		f.cache.unpin(n)
		f.nodes.forget(n, 1)
		return s
	}
	f.cache.install(n, newDesc(pfd)).unref()
	return fuse.OK
}

// createExisting opens a file that the guest's kernel didn't know of. What is
// no file sends the guest back to look again: ESTALE makes its kernel do so.
func (f *FS) createExisting(p *node, pd *desc, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	var st unix.Statx_t
	n, s := f.lookupAt(p, pd.fd, name, &st)
	if !s.Ok() {
		return s
	}
	if !n.isRegular() {
		s = estale
	} else {
		s = f.openFile(n, in.Flags, &out.OpenOut)
	}
	if !s.Ok() {
		f.nodes.forget(n, 1)
		return s
	}
	if in.Flags&unix.O_TRUNC != 0 {
		st.Size, st.Blocks = 0, 0
	}
	f.fillEntry(&out.EntryOut, &st, n)
	return fuse.OK
}

// Tmpfile implements fuse.RawFileSystem.
func (f *FS) Tmpfile(_ <-chan struct{}, in *fuse.CreateIn, out *fuse.CreateOut) fuse.Status {
	p, s := f.dirNode(in.NodeId)
	if !s.Ok() {
		return s
	}
	if s = f.mayChange("tmpfile", p, ""); !s.Ok() {
		return s
	}
	pd, s := f.acquire(p)
	if !s.Ok() {
		return s
	}
	defer pd.unref()
	if !f.handles.reserve() {
		return enfile
	}
	flags := int(in.Flags&(unix.O_ACCMODE|unix.O_EXCL)) | unix.O_TMPFILE
	fd, s := f.reopen(pd.fd, flags, in.Mode&0777)
	if s == fuse.EISDIR {
		s = fuse.ENOTSUP // a kernel or file system that doesn't know O_TMPFILE
	}
	if s.Ok() {
		s = f.opened(p, nil, "", fd, in, out)
	}
	if !s.Ok() {
		f.handles.cancel()
	}
	return s
}

// Mknod implements fuse.RawFileSystem. It makes files, FIFOs and sockets, which
// are the guest kernel's business; never devices, which would be the host's.
func (f *FS) Mknod(_ <-chan struct{}, in *fuse.MknodIn, name string, out *fuse.EntryOut) fuse.Status {
	p, s := f.enterDir("mknod", in.NodeId, name)
	if !s.Ok() {
		return s
	}
	ftype := in.Mode & unix.S_IFMT
	switch ftype {
	case unix.S_IFREG, unix.S_IFIFO, unix.S_IFSOCK:
	case unix.S_IFCHR, unix.S_IFBLK:
		return f.refuse("mknod", p, name, "device nodes are never made", fuse.EPERM)
	default:
		return fuse.EINVAL
	}
	return f.makeEntry(p, name, in.Mode&0777, out, func(dirfd int) error {
		return unix.Mknodat(dirfd, name, ftype|in.Mode&0777, 0)
	})
}

// Mkdir implements fuse.RawFileSystem.
func (f *FS) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	p, s := f.enterDir("mkdir", in.NodeId, name)
	if !s.Ok() {
		return s
	}
	mode := in.Mode & (0777 | unix.S_ISVTX)
	return f.makeEntry(p, name, mode, out, func(dirfd int) error {
		return unix.Mkdirat(dirfd, name, mode)
	})
}

// Symlink implements fuse.RawFileSystem. What the link says is the guest's
// business: nothing here ever follows it.
func (f *FS) Symlink(_ <-chan struct{}, in *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	p, s := f.enterDir("symlink", in.NodeId, name)
	if !s.Ok() {
		return s
	}
	return f.makeEntry(p, name, 0, out, func(dirfd int) error {
		return unix.Symlinkat(target, dirfd, name)
	})
}

// makeEntry makes name in p and answers with it.
func (f *FS) makeEntry(p *node, name string, mode uint32, out *fuse.EntryOut, make func(dirfd int) error) fuse.Status {
	if !f.visible(p, name) {
		return fuse.EACCES
	}
	pd, s := f.acquire(p)
	if !s.Ok() {
		return s
	}
	defer pd.unref()
	if err := retry(func() error { return make(pd.fd) }); err != nil {
		return status(err)
	}
	var st unix.Statx_t
	n, s := f.lookupAt(p, pd.fd, name, &st)
	if !s.Ok() {
		return s
	}
	if mode&f.umask != 0 {
		f.widen(n, mode, &st)
	}
	f.fillEntry(out, &st, n)
	return fuse.OK
}

// widen gives a new entry the mode that this process's umask took from it. It
// is about the node, so a swap of names meanwhile can't redirect it elsewhere.
func (f *FS) widen(n *node, mode uint32, st *unix.Statx_t) {
	if n.ftype == unix.S_IFLNK {
		return
	}
	d, s := f.acquire(n)
	if !s.Ok() {
		return
	}
	defer d.unref()
	if s = f.chmod(n, d, mode|uint32(st.Mode)&unix.S_ISGID); s.Ok() {
		_ = statFD(d.fd, st)
	}
}

// Link implements fuse.RawFileSystem.
func (f *FS) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	p, s := f.enterDir("link", in.NodeId, name)
	if !s.Ok() {
		return s
	}
	n, s := f.node(in.Oldnodeid)
	if !s.Ok() {
		return s
	}
	if s = f.mayChange("link", n, ""); !s.Ok() {
		return s
	}
	if n.key.dom != p.key.dom {
		return fuse.EXDEV
	}
	if n.isDir() {
		return fuse.EPERM
	}
	d, s := f.acquire(n)
	if !s.Ok() {
		return s
	}
	defer d.unref()
	return f.makeEntry(p, name, 0, out, func(dirfd int) error {
		if s := f.proc.link(d.fd, dirfd, name); !s.Ok() {
			return unix.Errno(s)
		}
		return nil
	})
}
