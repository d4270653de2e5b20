package workspace

import (
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Unlink implements fuse.RawFileSystem.
func (f *FS) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove("unlink", in.NodeId, name, 0)
}

// Rmdir implements fuse.RawFileSystem.
func (f *FS) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	return f.remove("rmdir", in.NodeId, name, unix.AT_REMOVEDIR)
}

func (f *FS) remove(op string, id uint64, name string, flags int) fuse.Status {
	p, s := f.enterDir(op, id, name)
	if !s.Ok() {
		return s
	}
	if !f.visible(p, name) {
		return fuse.ENOENT
	}
	pd, s := f.acquire(p)
	if !s.Ok() {
		return s
	}
	defer pd.unref()
	if flags == unix.AT_REMOVEDIR && len(f.folders) > 1 {
		var st unix.Statx_t
		if s = statAt(pd.fd, name, &st); s.Ok() {
			s = f.mayMove(op, p, name, &st)
		}
		if !s.Ok() {
			return s
		}
	}
	return status(retry(func() error { return unix.Unlinkat(pd.fd, name, flags) }))
}

// Rename implements fuse.RawFileSystem, for RENAME and RENAME2.
func (f *FS) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	if in.Flags&^(unix.RENAME_NOREPLACE|unix.RENAME_EXCHANGE) != 0 {
		return fuse.EINVAL // RENAME_WHITEOUT makes a device node
	}
	from, s := f.enterDir("rename", in.NodeId, oldName)
	if !s.Ok() {
		return s
	}
	to, s := f.enterDir("rename", in.Newdir, newName)
	if !s.Ok() {
		return s
	}
	if from.key.dom != to.key.dom {
		return fuse.EXDEV
	}
	if !f.visible(from, oldName) {
		return fuse.ENOENT
	}
	if !f.visible(to, newName) {
		return fuse.EACCES
	}
	fromFD, s := f.acquire(from)
	if !s.Ok() {
		return s
	}
	defer fromFD.unref()
	toFD, s := f.acquire(to)
	if !s.Ok() {
		return s
	}
	defer toFD.unref()
	return f.rename(place{from, fromFD, oldName}, place{to, toFD, newName}, in.Flags)
}

// place is a name in a directory that is open.
type place struct {
	dir  *node
	desc *desc
	name string
}

func (f *FS) rename(from, to place, flags uint32) fuse.Status {
	var moved, other unix.Statx_t
	s := statAt(from.desc.fd, from.name, &moved)
	if s.Ok() {
		s = f.mayMove("rename", from.dir, from.name, &moved)
	}
	if s.Ok() && (flags&unix.RENAME_EXCHANGE != 0 || len(f.folders) > 1) {
		if statAt(to.desc.fd, to.name, &other).Ok() {
			s = f.mayMove("rename", to.dir, to.name, &other)
		}
	}
	if !s.Ok() {
		return s
	}
	err := retry(func() error {
		return unix.Renameat2(from.desc.fd, from.name, to.desc.fd, to.name, uint(flags))
	})
	if err != nil {
		return status(err)
	}
	f.moved(to, &moved)
	if flags&unix.RENAME_EXCHANGE != 0 {
		f.moved(from, &other)
	}
	return fuse.OK
}

// moved tells the node of what st describes, if there is one, its new place.
func (f *FS) moved(to place, st *unix.Statx_t) {
	f.nodes.renamed(key{f.domainOf(to.dir, st), inodeOf(st)}, to.dir, to.name)
}
