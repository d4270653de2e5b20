package workspace

import (
	"bytes"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Only user.* attributes cross the border. security.* would give a file on the
// host a label or capabilities, trusted.* is for overlays, and ACLs name users
// who don't exist on the other side.

const (
	userPrefix = "user."
	maxAttr    = 64 << 10 // XATTR_SIZE_MAX
)

func userAttr(attr string) bool {
	return strings.HasPrefix(attr, userPrefix) && len(attr) > len(userPrefix) &&
		len(attr) <= nameMax && strings.IndexByte(attr, 0) < 0
}

// GetXAttr implements fuse.RawFileSystem.
func (f *FS) GetXAttr(_ <-chan struct{}, in *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	if strings.HasPrefix(attr, "security.") {
		return 0, fuse.ENODATA // asked before many a write: answer at once
	}
	if !userAttr(attr) {
		return 0, fuse.ENOTSUP
	}
	d, s := f.xattrNode(in.NodeId)
	if !s.Ok() {
		return 0, s
	}
	defer d.unref()
	n, err := unix.Getxattr(procPath(d.fd), attr, dest)
	if err != nil {
		return 0, status(err)
	}
	return uint32(n), fuse.OK
}

// xattrNode opens the node whose attributes are wanted. The synthetic root and
// links have none.
func (f *FS) xattrNode(id uint64) (*desc, fuse.Status) {
	n, s := f.node(id)
	if !s.Ok() {
		return nil, s
	}
	if n.isRoot() || n.ftype == unix.S_IFLNK {
		return nil, fuse.ENODATA
	}
	return f.acquire(n)
}

// ListXAttr implements fuse.RawFileSystem.
func (f *FS) ListXAttr(_ <-chan struct{}, in *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	d, s := f.xattrNode(in.NodeId)
	if s == fuse.ENODATA {
		return 0, fuse.OK
	}
	if !s.Ok() {
		return 0, s
	}
	defer d.unref()
	size, err := unix.Listxattr(procPath(d.fd), nil)
	if err != nil || size == 0 {
		return 0, status(err)
	}
	list := make([]byte, size)
	if size, err = unix.Listxattr(procPath(d.fd), list); err != nil {
		return 0, status(err)
	}
	list = userAttrs(list[:size])
	if len(dest) < len(list) {
		if len(dest) == 0 {
			return uint32(len(list)), fuse.OK
		}
		return uint32(len(list)), fuse.ERANGE
	}
	return uint32(copy(dest, list)), fuse.OK
}

// userAttrs keeps the user.* names of a list, in place.
func userAttrs(list []byte) []byte {
	kept := list[:0]
	for len(list) > 0 {
		name, rest, _ := bytes.Cut(list, []byte{0})
		if bytes.HasPrefix(name, []byte(userPrefix)) {
			kept = append(append(kept, name...), 0)
		}
		list = rest
	}
	return kept
}

// SetXAttr implements fuse.RawFileSystem.
func (f *FS) SetXAttr(_ <-chan struct{}, in *fuse.SetXAttrIn, attr string, data []byte) fuse.Status {
	if uint64(len(data)) < uint64(in.Size) || in.Size > maxAttr {
		return fuse.EINVAL
	}
	d, s := f.changeXAttr("setxattr", in.NodeId, attr)
	if !s.Ok() {
		return s
	}
	defer d.unref()
	flags := int(in.Flags) & (unix.XATTR_CREATE | unix.XATTR_REPLACE)
	return status(unix.Setxattr(procPath(d.fd), attr, data[:in.Size], flags))
}

// RemoveXAttr implements fuse.RawFileSystem.
func (f *FS) RemoveXAttr(_ <-chan struct{}, in *fuse.InHeader, attr string) fuse.Status {
	d, s := f.changeXAttr("removexattr", in.NodeId, attr)
	if !s.Ok() {
		return s
	}
	defer d.unref()
	return status(unix.Removexattr(procPath(d.fd), attr))
}

func (f *FS) changeXAttr(op string, id uint64, attr string) (*desc, fuse.Status) {
	n, s := f.node(id)
	if !s.Ok() {
		return nil, s
	}
	if s = f.mayChange(op, n, ""); !s.Ok() {
		return nil, s
	}
	if !userAttr(attr) {
		return nil, fuse.ENOTSUP
	}
	if n.ftype == unix.S_IFLNK {
		return nil, fuse.EPERM
	}
	return f.acquire(n)
}
