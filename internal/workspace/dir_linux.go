package workspace

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// OpenDir implements fuse.RawFileSystem.
func (f *FS) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	n, s := f.dirNode(in.NodeId)
	if !s.Ok() {
		return s
	}
	if !f.handles.reserve() {
		return enfile
	}
	f.cache.pin(n)
	fd := -1
	if !n.isRoot() {
		if fd, s = f.openDir(n); !s.Ok() {
			f.cache.unpin(n)
			f.handles.cancel()
			return s
		}
	}
	out.Fh = f.handles.add(n, fd, false).id
	return fuse.OK
}

func (f *FS) openDir(n *node) (int, fuse.Status) {
	d, s := f.acquire(n)
	if !s.Ok() {
		return -1, s
	}
	defer d.unref()
	return f.reopen(d.fd, unix.O_RDONLY|unix.O_DIRECTORY, 0)
}

// ReleaseDir implements fuse.RawFileSystem.
func (f *FS) ReleaseDir(in *fuse.ReleaseIn) {
	f.handles.release(in.Fh, in.NodeId)
}

// FsyncDir implements fuse.RawFileSystem.
func (f *FS) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	h, s := f.dir(in.Fh, in.NodeId)
	if !s.Ok() {
		return s
	}
	defer f.handles.put(h)
	if h.fd < 0 {
		return fuse.OK
	}
	return syncHandle(h, in.FsyncFlags)
}

// ReadDir implements fuse.RawFileSystem.
func (f *FS) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	h, s := f.dir(in.Fh, in.NodeId)
	if !s.Ok() {
		return s
	}
	defer f.handles.put(h)
	// An entry is as long here as it is in the reply.
	return f.readDir(h, in.Offset, int(in.Size), func(e fuse.DirEntry) bool {
		return out.AddDirEntry(e)
	})
}

// ReadDirPlus implements fuse.RawFileSystem.
func (f *FS) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	h, s := f.dir(in.Fh, in.NodeId)
	if !s.Ok() {
		return s
	}
	defer f.handles.put(h)
	// An entry is about five times as long in the reply.
	return f.readDir(h, in.Offset, int(in.Size)/4, func(e fuse.DirEntry) bool {
		slot := out.AddDirLookupEntry(e)
		if slot == nil {
			return false
		}
		if e.Name != "." && e.Name != ".." {
			f.lookupEntry(h, e.Name, slot)
		}
		return true
	})
}

// lookupEntry adds a lookup to an entry. One that fails is an entry still: the
// kernel will ask when it needs it.
func (f *FS) lookupEntry(h *handle, name string, out *fuse.EntryOut) {
	if h.fd < 0 {
		_ = f.lookupFolder(name, out)
		return
	}
	var st unix.Statx_t
	if n, s := f.lookupAt(h.node, h.fd, name, &st); s.Ok() {
		f.fillEntry(out, &st, n)
	}
}

const (
	minDirBuf = 1 << 10
	maxDirBuf = 64 << 10
)

var dirBufs = sync.Pool{New: func() any { b := make([]byte, maxDirBuf); return &b }}

// readDir passes the entries from offset on to add, until that has no room. It
// reads about size bytes of them, because what add doesn't take is read again.
func (f *FS) readDir(h *handle, offset uint64, size int, add func(fuse.DirEntry) bool) fuse.Status {
	if h.fd < 0 {
		return f.readRoot(offset, add)
	}
	buf := dirBufs.Get().(*[]byte)
	defer dirBufs.Put(buf)
	part := (*buf)[:min(max(size, minDirBuf), maxDirBuf)]

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pos != offset {
		if _, err := unix.Seek(h.fd, int64(offset), unix.SEEK_SET); err != nil {
			return status(err)
		}
		h.pos = offset
	}
	for {
		n, err := unix.Getdents(h.fd, part)
		if err != nil || n <= 0 {
			return status(err)
		}
		added, full := f.addEntries(h, part[:n], add)
		if full {
			// Go back to the first entry that had no room.
			_, err = unix.Seek(h.fd, int64(h.pos), unix.SEEK_SET)
			return status(err)
		}
		if added {
			return fuse.OK
		}
	}
}

// addEntries parses struct linux_dirent64 and moves h.pos behind what was taken.
func (f *FS) addEntries(h *handle, buf []byte, add func(fuse.DirEntry) bool) (added, full bool) {
	const header = 19
	for len(buf) > header {
		size := int(binary.NativeEndian.Uint16(buf[16:]))
		if size < header || size > len(buf) {
			return added, false
		}
		e := fuse.DirEntry{
			Ino:  binary.NativeEndian.Uint64(buf) ^ h.node.mix,
			Off:  binary.NativeEndian.Uint64(buf[8:]),
			Mode: uint32(buf[18]) << 12,
		}
		name, _, _ := bytes.Cut(buf[header:size], []byte{0})
		e.Name = string(name)
		buf = buf[size:]
		if e.Name == ".." && h.node.id < firstID {
			e.Ino = fuse.FUSE_ROOT_ID // what is above a folder is not the guest's business
		}
		if !f.visible(h.node, e.Name) {
			h.pos = e.Off
			continue
		}
		if !add(e) {
			return added, true
		}
		h.pos, added = e.Off, true
	}
	return added, false
}

// readRoot lists the folders.
func (f *FS) readRoot(offset uint64, add func(fuse.DirEntry) bool) fuse.Status {
	names := []string{".", ".."}
	for _, folder := range f.folders {
		names = append(names, folder.Name)
	}
	for i := offset; i < uint64(len(names)); i++ {
		e := fuse.DirEntry{Name: names[i], Mode: unix.S_IFDIR, Ino: fuse.FUSE_ROOT_ID, Off: i + 1}
		if i >= 2 {
			r := f.roots[i-2]
			e.Ino = r.key.ino ^ r.mix
		}
		if !add(e) {
			break
		}
	}
	return fuse.OK
}
