package workspace

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Lookup implements fuse.RawFileSystem.
func (f *FS) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	p, s := f.dirNode(in.NodeId)
	if !s.Ok() {
		return s
	}
	if s = f.goodName("lookup", p, name); !s.Ok() {
		return s
	}
	if p.isRoot() {
		return f.lookupFolder(name, out)
	}
	var st unix.Statx_t
	n, s := f.lookup(p, name, &st)
	if s == fuse.ENOENT {
		// Node 0 is an absence that the kernel may remember, too.
		out.SetEntryTimeout(f.opts.CacheTTL)
		return fuse.OK
	}
	if !s.Ok() {
		return s
	}
	f.fillEntry(out, &st, n)
	return fuse.OK
}

// lookup finds name in p and counts a lookup of what it is.
func (f *FS) lookup(p *node, name string, st *unix.Statx_t) (*node, fuse.Status) {
	pd, s := f.acquire(p)
	if !s.Ok() {
		return nil, s
	}
	defer pd.unref()
	return f.lookupAt(p, pd.fd, name, st)
}

// lookupAt is lookup with a descriptor of p's at hand.
func (f *FS) lookupAt(p *node, dirfd int, name string, st *unix.Statx_t) (*node, fuse.Status) {
	if !f.visible(p, name) {
		return nil, fuse.ENOENT
	}
	if s := statAt(dirfd, name, st); !s.Ok() {
		return nil, s
	}
	return f.enter(p, dirfd, name, st)
}

// enter counts a lookup of what st describes, found as name in p.
func (f *FS) enter(p *node, dirfd int, name string, st *unix.Statx_t) (*node, fuse.Status) {
	k := key{f.domainOf(p, st), inodeOf(st)}
	mix := p.mix
	if k.dev != p.key.dev {
		dev := f.devices.get(k.dev, dirfd, name)
		if !dev.allowed {
			return nil, f.refuse("lookup", p, name, "it is on a file system of the kernel", fuse.EACCES)
		}
		mix = dev.mix
	}
	n := f.nodes.enter(k, st, mix, p, name)
	if n == nil {
		return nil, enfile
	}
	return n, fuse.OK
}

func (f *FS) lookupFolder(name string, out *fuse.EntryOut) fuse.Status {
	for i, folder := range f.folders {
		if folder.Name != name {
			continue
		}
		var st unix.Statx_t
		if s := f.stat(f.roots[i], &st); !s.Ok() {
			return s
		}
		f.fillEntry(out, &st, f.roots[i])
		return fuse.OK
	}
	out.SetEntryTimeout(f.opts.CacheTTL)
	return fuse.OK
}

// Forget implements fuse.RawFileSystem.
func (f *FS) Forget(id, count uint64) {
	if n := f.nodes.get(id); n != nil && id >= firstID {
		f.nodes.forget(n, count)
	}
}

// Readlink implements fuse.RawFileSystem.
func (f *FS) Readlink(_ <-chan struct{}, in *fuse.InHeader) ([]byte, fuse.Status) {
	n, s := f.node(in.NodeId)
	if !s.Ok() {
		return nil, s
	}
	if n.ftype != unix.S_IFLNK {
		return nil, fuse.EINVAL
	}
	d, s := f.acquire(n)
	if !s.Ok() {
		return nil, s
	}
	defer d.unref()
	buf := make([]byte, unix.PathMax)
	size, err := unix.Readlinkat(d.fd, "", buf)
	if err != nil {
		return nil, status(err)
	}
	return buf[:size], fuse.OK
}

// StatFs implements fuse.RawFileSystem.
func (f *FS) StatFs(_ <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	n, s := f.node(in.NodeId)
	if !s.Ok() {
		return s
	}
	if n.isRoot() {
		n = f.roots[0]
	}
	d, s := f.acquire(n)
	if !s.Ok() {
		return s
	}
	defer d.unref()
	var st unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(d.fd, &st) }); err != nil {
		return status(err)
	}
	*out = fuse.StatfsOut{
		Blocks: st.Blocks, Bfree: st.Bfree, Bavail: st.Bavail,
		Files: st.Files, Ffree: st.Ffree,
		Bsize: uint32(st.Bsize), Frsize: uint32(st.Frsize), NameLen: nameMax,
	}
	return fuse.OK
}
