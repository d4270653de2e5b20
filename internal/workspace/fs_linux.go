package workspace

import (
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// FS is the file system that a guest sees. It implements fuse.RawFileSystem;
// its methods are safe for concurrent use.
type FS struct {
	fuse.RawFileSystem // ENOSYS for what isn't implemented: locks, Access, Flush

	opts    Options
	folders []Folder
	domains [][]*domain // by outer and inner folder
	roots   []*node     // of the folders
	nested  map[inode]int

	proc     procFD
	procDesc *desc
	budget   *budget // shared by all sessions
	umask    uint32
	root     *node
	nodes    *table
	handles  *handles
	cache    descCache
	devices  devices
	closed   atomic.Bool
}

// MaxRequest is the most that one READ or WRITE may carry.
const MaxRequest = 1 << 20

// New opens the folders. The caller ends with Close.
func New(folders []Folder, o Options) (*FS, error) {
	if err := checkFolders(folders); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	limit, err := descriptorLimit(o.MaxDescriptors)
	if err != nil {
		return nil, err
	}
	proc, err := openProc()
	if err != nil {
		return nil, fmt.Errorf("workspace: failed to open /proc/self/fd: %w", err)
	}
	f := empty(folders, o, proc, newBudget(limit, o.MaxNodes))
	if err := f.openFolders(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// empty is a file system without its folders.
func empty(folders []Folder, o Options, proc *desc, b *budget) *FS {
	f := &FS{
		RawFileSystem: fuse.NewDefaultRawFileSystem(),
		opts:          o,
		folders:       folders,
		nested:        make(map[inode]int, len(folders)),
		procDesc:      proc,
		proc:          procFD(proc.fd),
		umask:         processUmask(),
		budget:        b,
	}
	f.cache.idle = &b.idle
	f.handles = newHandles(&b.handles, &f.cache)
	f.nodes = newTable(&b.nodes, f.cache.drop)
	f.root = &node{id: fuse.FUSE_ROOT_ID, ftype: unix.S_IFDIR, slot: noSlot, key: key{dom: &domain{readOnly: true}}}
	f.nodes.putID(f.root)
	return f
}

// session is a file system of its own on the same open folders, for a guest
// that mounts anew: paths are resolved once, because whoever can change a
// folder's surroundings could lead a second look elsewhere.
func (f *FS) session() *FS {
	f.procDesc.ref()
	s := empty(f.folders, f.opts, f.procDesc, f.budget)
	s.domains, s.nested = f.domains, f.nested
	for _, r := range f.roots {
		d := r.desc.Load()
		d.ref()
		n := &node{id: r.id, key: r.key, mix: r.mix, ftype: r.ftype, slot: noSlot}
		n.btime.Store(r.btime.Load())
		n.desc.Store(d)
		s.roots = append(s.roots, n)
		s.nodes.putID(n)
		s.devices.get(r.key.dev, d.fd, "")
	}
	return s
}

// descriptorLimit is how many descriptors this file system may use.
func descriptorLimit(wanted int) (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("workspace: failed to read RLIMIT_NOFILE: %w", err)
	}
	limit := int(min(r.Cur, 1<<20)) / 2
	if wanted > 0 {
		limit = min(limit, wanted)
	}
	return limit, nil
}

// processUmask reads the umask without changing it, which would be seen by the
// whole process.
func processUmask() uint32 {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "Umask:"); ok {
			if m, err := strconv.ParseUint(strings.TrimSpace(v), 8, 32); err == nil {
				return uint32(m)
			}
		}
	}
	return 0777 // unknown: correct every mode after a creation
}

func (f *FS) openFolders() error {
	if len(f.folders) == 0 {
		return errNoFolders
	}
	for i, folder := range f.folders {
		n, err := f.openFolder(i, folder)
		if err != nil {
			return fmt.Errorf("workspace folder %q: %w", folder.Path, err)
		}
		f.roots = append(f.roots, n)
		f.nodes.putID(n)
		if j, twice := f.nested[n.key.inode]; !twice || folder.ReadOnly && !f.folders[j].ReadOnly {
			f.nested[n.key.inode] = i // the stricter of two folders that are one
		}
	}
	return nil
}

func (f *FS) openFolder(i int, folder Folder) (*node, error) {
	row := make([]*domain, len(f.folders))
	for j, inner := range f.folders {
		row[j] = &domain{outer: i, inner: j, readOnly: inner.ReadOnly}
	}
	f.domains = append(f.domains, row)

	fd, err := openReal(folder.Path)
	if err != nil {
		return nil, err
	}
	n := &node{id: fuse.FUSE_ROOT_ID + 1 + uint64(i), ftype: unix.S_IFDIR, slot: noSlot}
	n.desc.Store(newDesc(fd))
	var st unix.Statx_t
	if s := statFD(fd, &st); !s.Ok() {
		n.desc.Load().unref()
		return nil, fmt.Errorf("failed to read attributes: %w", unix.Errno(s))
	}
	n.key = key{row[i], inodeOf(&st)}
	n.btime.Store(birth(&st))
	dev := f.devices.get(n.key.dev, fd, "")
	if !dev.allowed {
		n.desc.Load().unref()
		return nil, errors.New("is on a file system of the kernel, which can't be shared")
	}
	n.mix = dev.mix
	return n, nil
}

// Close releases every descriptor. It is called when no request runs any more,
// and may be called again.
func (f *FS) Close() error {
	if f.closed.Swap(true) {
		return nil
	}
	f.handles.releaseAll()
	f.nodes.clear()
	f.cache.close()
	for _, n := range f.roots {
		f.nodes.deleteID(n.id)
		n.desc.Swap(nil).unref()
	}
	f.procDesc.unref()
	return nil
}

// OnUnmount implements fuse.RawFileSystem.
func (f *FS) OnUnmount() { _ = f.Close() }

// String names the file system in the guest's mount table.
func (f *FS) String() string { return "workspace" }

// MountOptions are those that the file system relies on, whatever carries it.
func (f *FS) MountOptions() *fuse.MountOptions {
	return &fuse.MountOptions{
		Name:          "workspace",
		MaxWrite:      MaxRequest,
		MaxBackground: 64,
		DisableSplice: true,
		Logger:        log.New(logWriter{f.opts.Log}, "", 0),
		PanicHandler:  f.panicked,
		// The passthrough and ID-map offers make no sense across a VM's border.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH | fuse.CAP_ALLOW_IDMAP,
		ExtraCapabilities: fuse.CAP_ATOMIC_O_TRUNC | fuse.CAP_HANDLE_KILLPRIV_V2 |
			fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO,
	}
}

// node returns the node with a number that the guest sent.
func (f *FS) node(id uint64) (*node, fuse.Status) {
	if n := f.nodes.get(id); n != nil {
		return n, fuse.OK
	}
	return nil, estale
}

// dirNode returns the node of a directory on the host.
func (f *FS) dirNode(id uint64) (*node, fuse.Status) {
	n, st := f.node(id)
	if !st.Ok() {
		return nil, st
	}
	if !n.isDir() {
		return nil, fuse.ENOTDIR
	}
	return n, fuse.OK
}

func (f *FS) panicked(reason any) fuse.Status {
	f.opts.Log.Error("workspace: a request panicked", "reason", fmt.Sprint(reason))
	return fuse.EIO
}
