package workspace

import (
	"strconv"
	"strings"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Every decision that isn't the host kernel's is made in this file. Rules for
// single files (hidden, protected) belong into visible and mayChange.

// visible decides whether the guest may know of a name in a directory.
func (f *FS) visible(*node, string) bool { return true }

// mayChange decides whether the guest may change n, or name in it.
func (f *FS) mayChange(op string, n *node, name string) fuse.Status {
	if n.key.dom.readOnly {
		return f.refuse(op, n, name, "the folder is read-only", fuse.EROFS)
	}
	return fuse.OK
}

// mayMove decides whether what st describes may lose its name: the top of a
// folder inside another one may not, like a mount point.
func (f *FS) mayMove(op string, p *node, name string, st *unix.Statx_t) fuse.Status {
	if _, top := f.nested[inodeOf(st)]; top && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return f.refuse(op, p, name, "it is a workspace folder itself", fuse.EBUSY)
	}
	return fuse.OK
}

// goodName decides whether name may be used in a directory.
func (f *FS) goodName(op string, p *node, name string) fuse.Status {
	if validName(name) {
		return fuse.OK
	}
	if len(name) > nameMax {
		return fuse.Status(unix.ENAMETOOLONG)
	}
	return f.refuse(op, p, name, "the name is not one path component", fuse.EINVAL)
}

// enterDir checks an operation that makes, replaces or removes name in the
// directory with a number.
func (f *FS) enterDir(op string, id uint64, name string) (*node, fuse.Status) {
	p, st := f.dirNode(id)
	if !st.Ok() {
		return nil, st
	}
	if st = f.goodName(op, p, name); !st.Ok() {
		return nil, st
	}
	return p, f.mayChange(op, p, name)
}

// domainOf is the domain of what st describes, found in p.
func (f *FS) domainOf(p *node, st *unix.Statx_t) *domain {
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		if inner, ok := f.nested[inodeOf(st)]; ok {
			return f.domains[p.key.dom.outer][inner]
		}
	}
	return p.key.dom
}

// refuse reports a refusal and returns what the guest is told.
func (f *FS) refuse(op string, n *node, name, reason string, st fuse.Status) fuse.Status {
	f.opts.Refused(Refusal{Op: op, Path: f.describe(n, name), Reason: reason})
	return st
}

const (
	maxShownParts = 16
	maxShownPath  = 256
)

// describe is the path of n, or of name in it, as far as it is known.
func (f *FS) describe(n *node, name string) string {
	var parts []string
	if name != "" {
		parts = append(parts, name)
	}
	for i := 0; n != nil && !n.isRoot(); i++ {
		loc := n.loc.Load()
		if loc == nil {
			if n.id < firstID {
				parts = append(parts, f.folders[n.key.dom.outer].Name)
			}
			break
		}
		if i == maxShownParts {
			parts = append(parts, "...")
			break
		}
		parts = append(parts, loc.name)
		n = loc.parent
	}
	var b strings.Builder
	for i := len(parts) - 1; i >= 0 && b.Len() < maxShownPath; i-- {
		if b.Len() > 0 {
			b.WriteByte('/')
		}
		b.WriteString(parts[i])
	}
	path := b.String()
	return strconv.QuoteToASCII(path[:min(len(path), maxShownPath)])
}

// devices knows the file systems below the folders.
type devices struct {
	mu sync.RWMutex
	m  map[uint64]device
}

type device struct {
	mix     uint64 // makes inode numbers unique: the folders' first device has 0
	allowed bool
}

// maxDevices is how many file systems below the folders get inode numbers that
// differ from the others'.
const maxDevices = 1 << 15

// get returns what is known of the device that name in dirfd is on. An empty
// name means dirfd itself.
func (d *devices) get(dev uint64, dirfd int, name string) device {
	d.mu.RLock()
	known, ok := d.m[dev]
	d.mu.RUnlock()
	if ok {
		return known
	}
	allowed, err := onSharable(dirfd, name)
	if err != nil {
		return device{} // refused for now
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if known, ok := d.m[dev]; ok {
		return known
	}
	if d.m == nil {
		d.m = make(map[uint64]device)
	}
	if len(d.m) >= maxDevices {
		return device{allowed: allowed}
	}
	known = device{mix: uint64(len(d.m)) << 48, allowed: allowed}
	d.m[dev] = known
	return known
}

// onSharable reports whether a file is on a file system of files, not one of
// those through which the kernel shows and changes itself and its processes
// (this one, for instance). Such may be mounted below a folder.
func onSharable(dirfd int, name string) (bool, error) {
	fd := dirfd
	if name != "" {
		var st fuse.Status
		if fd, st = openAt(dirfd, name, pathOnly, 0); !st.Ok() {
			return false, unix.Errno(st)
		}
		defer unix.Close(fd)
	}
	var s unix.Statfs_t
	if err := retry(func() error { return unix.Fstatfs(fd, &s) }); err != nil {
		return false, err
	}
	switch uint32(s.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.SELINUX_MAGIC,
		unix.SMACK_MAGIC, unix.BPF_FS_MAGIC, unix.EFIVARFS_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.NSFS_MAGIC, unix.BINFMTFS_MAGIC, unix.PSTOREFS_MAGIC, unix.AAFS_MAGIC,
		unix.RDTGROUP_SUPER_MAGIC, configfsMagic:
		return false, nil
	}
	return true, nil
}

const configfsMagic = 0x62656570
