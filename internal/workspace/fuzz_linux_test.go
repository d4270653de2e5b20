package workspace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// FuzzRequests plays a guest's kernel that keeps no rule, and a host that swaps
// names meanwhile. Whatever they do, nothing outside and nothing in a read-only
// folder changes, nothing outside is read, and no descriptor is left over.
func FuzzRequests(f *testing.F) {
	f.Add([]byte("\x00\x01\x00\x02\x03\x00\x04\x05\x06"))
	f.Add([]byte(strings.Repeat("\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19", 4)))
	all := make([]byte, 0, 1024)
	for i := range 340 {
		all = append(all, byte(i), byte(i*7), byte(i*13))
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 2000 {
			return
		}
		x := newFS(t, Options{MaxDescriptors: 24, MaxNodes: 50})
		write(t, x.hostRW+"/file", "inside")
		must(t, os.Mkdir(x.hostRW+"/dir", 0o755))
		must(t, os.Symlink(x.outside, x.hostRW+"/link"))
		outside, readOnly := snapshot(t, x.outside), snapshot(t, x.hostRO)
		g := &wild{guest: guest{t, x.fs}, x: x, data: data, ids: []uint64{0, 1, 2, 3, firstID}, fhs: []uint64{0, 1}}
		for len(g.data) > 0 {
			g.step()
		}
		must(t, x.fs.Close())
		if n := x.fs.handles.count.used.Load() + x.fs.nodes.count.used.Load(); n != 0 {
			t.Errorf("%d nodes and handles are left", n)
		}
		if after := snapshot(t, x.outside); after != outside {
			t.Errorf("the outside changed:\n%s\n%s", outside, after)
		}
		if after := snapshot(t, x.hostRO); after != readOnly {
			t.Errorf("the read-only folder changed:\n%s\n%s", readOnly, after)
		}
	})
}

// wild turns bytes into requests.
type wild struct {
	guest
	x    *fixture
	data []byte
	ids  []uint64
	fhs  []uint64
}

func (g *wild) byte() int {
	if len(g.data) == 0 {
		return 0
	}
	b := g.data[0]
	g.data = g.data[1:]
	return int(b)
}

var wildNames = []string{"file", "dir", "link", "w", "r", "new", "..", ".", "", "a/b", "../outside", "secret", "\xff", "x\x00y"}

func (g *wild) name() string { return wildNames[g.byte()%len(wildNames)] }

func (g *wild) header() fuse.InHeader {
	// Half of the time what was given out last, for depth.
	if b := g.byte(); b%2 == 0 {
		return header(g.ids[len(g.ids)-1-b/2%min(len(g.ids), 4)])
	}
	return header(g.ids[g.byte()%len(g.ids)])
}

func (g *wild) fh() uint64 { return g.fhs[g.byte()%len(g.fhs)] }

// number is small, or at a border.
func (g *wild) number() uint64 {
	b := uint64(g.byte())
	switch b % 8 {
	case 0:
		return ^uint64(0) - b/8
	case 1:
		return 1<<63 - b/8
	case 2:
		return 1<<31 + b/8
	}
	return b
}

func (g *wild) entered(e *fuse.EntryOut, s fuse.Status) {
	if s.Ok() && e.NodeId != 0 {
		g.ids = append(g.ids, e.NodeId)
	}
}

func (g *wild) step() {
	op := g.byte() % 26
	if op < 13 {
		g.stepNames(op)
	} else {
		g.stepFiles(op)
	}
}

func (g *wild) stepNames(op int) {
	var e fuse.EntryOut
	var c fuse.CreateOut
	h, name, fs := g.header(), g.name(), g.fs
	mode := uint32(g.number())
	switch op {
	case 0, 1, 2:
		g.entered(&e, fs.Lookup(nil, &h, name, &e))
	case 3:
		g.entered(&e, fs.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: uint32(g.byte())<<12 | mode&07777, Rdev: mode}, name, &e))
	case 4:
		g.entered(&e, fs.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: mode}, name, &e))
	case 5:
		g.entered(&e, fs.Symlink(nil, &h, g.x.outside, name, &e))
	case 6:
		g.entered(&e, fs.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: g.header().NodeId}, name, &e))
	case 7:
		fs.Unlink(nil, &h, name)
	case 8:
		fs.Rmdir(nil, &h, name)
	case 9:
		fs.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: g.header().NodeId, Flags: uint32(g.byte() % 8)}, name, g.name())
	case 10:
		if s := fs.Create(nil, &fuse.CreateIn{InHeader: h, Flags: mode, Mode: mode}, name, &c); s.Ok() {
			g.ids, g.fhs = append(g.ids, c.NodeId), append(g.fhs, c.Fh)
		}
	case 11:
		if s := fs.Tmpfile(nil, &fuse.CreateIn{InHeader: h, Flags: mode, Mode: mode}, &c); s.Ok() {
			g.ids, g.fhs = append(g.ids, c.NodeId), append(g.fhs, c.Fh)
		}
	case 12: // the host swaps
		w := g.x.hostRW
		_ = unix.Renameat2(unix.AT_FDCWD, filepath.Join(w, "dir"), unix.AT_FDCWD, filepath.Join(w, "link"), unix.RENAME_EXCHANGE)
	}
}

func (g *wild) stepFiles(op int) {
	h, fs := g.header(), g.fs
	var o fuse.OpenOut
	switch op {
	case 13:
		if fh, s := g.open(h.NodeId, uint32(g.number())); s.Ok() {
			g.fhs = append(g.fhs, fh)
		}
	case 14:
		if got, s := g.read(h.NodeId, g.fh(), 20); s.Ok() && strings.Contains(got, "canary") {
			g.t.Errorf("read %q", got)
		}
	case 15:
		data := make([]byte, g.byte())
		fs.Write(nil, &fuse.WriteIn{InHeader: h, Fh: g.fh(), Offset: g.number(), Size: uint32(len(data)), Flags: uint32(g.number())}, data)
	case 16:
		fs.Release(nil, &fuse.ReleaseIn{InHeader: h, Fh: g.fh()})
	case 17:
		fs.Forget(h.NodeId, g.number())
	case 18:
		var a fuse.AttrOut
		fs.GetAttr(nil, &fuse.GetAttrIn{InHeader: h, Flags_: uint32(g.byte()), Fh_: g.fh()}, &a)
	case 19:
		g.setAttr(h)
	case 20:
		if fs.OpenDir(nil, &fuse.OpenIn{InHeader: h}, &o).Ok() {
			g.fhs = append(g.fhs, o.Fh)
		}
	case 21:
		g.list(h)
	case 22:
		fs.Fallocate(nil, &fuse.FallocateIn{InHeader: h, Fh: g.fh(), Offset: g.number(), Length: g.number() % 10000, Mode: uint32(g.byte() % 64)})
	case 23:
		fs.CopyFileRange(nil, &fuse.CopyFileRangeIn{InHeader: h, FhIn: g.fh(), OffIn: g.number(), NodeIdOut: g.header().NodeId, FhOut: g.fh(), OffOut: g.number(), Len: g.number() % 10000})
	case 24:
		g.xattr(h)
	case 25:
		var st fuse.StatfsOut
		var sx fuse.StatxOut
		var l fuse.LseekOut
		fs.StatFs(nil, &h, &st)
		_, _ = fs.Readlink(nil, &h)
		fs.Statx(nil, &fuse.StatxIn{InHeader: h, GetattrFlags: uint32(g.byte()), Fh: g.fh()}, &sx)
		fs.Lseek(nil, &fuse.LseekIn{InHeader: h, Fh: g.fh(), Offset: g.number(), Whence: uint32(g.byte() % 8)}, &l)
		fs.FsyncDir(nil, &fuse.FsyncIn{InHeader: h, Fh: g.fh() + 1000})
	}
}

func (g *wild) setAttr(h fuse.InHeader) {
	var a fuse.AttrOut
	in := fuse.SetAttrInCommon{InHeader: h, Valid: uint32(g.byte()) | uint32(g.byte())<<8, Fh: g.fh(), Mode: uint32(g.number()), Atime: g.number(), Mtimensec: uint32(g.number())}
	if in.Size = g.number(); in.Size < 1<<62 {
		in.Size %= 1 << 20 // the host's disk is not the test's
	}
	g.fs.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: in}, &a)
}

func (g *wild) list(h fuse.InHeader) {
	size := g.byte() * 16
	in := &fuse.ReadIn{InHeader: h, Fh: g.fh(), Offset: g.number(), Size: uint32(size)}
	if g.byte()%2 == 0 {
		g.fs.ReadDir(nil, in, fuse.NewDirEntryList(make([]byte, size), in.Offset))
		return
	}
	out := fuse.NewDirEntryList(make([]byte, size), in.Offset)
	if !g.fs.ReadDirPlus(nil, in, out).Ok() {
		return
	}
	_, entries, err := fuse.ParseDirLookupEntries(out.Bytes())
	if err != nil {
		g.t.Errorf("the listing can't be parsed: %v", err)
	}
	for i := range entries {
		g.entered(&entries[i], fuse.OK)
	}
}

func (g *wild) xattr(h fuse.InHeader) {
	attrs := []string{"user.a", "security.capability", "system.posix_acl_access", "user.", "", "trusted.x"}
	attr := attrs[g.byte()%len(attrs)]
	data := make([]byte, g.byte())
	g.fs.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h, Size: uint32(g.byte()), Flags: uint32(g.byte())}, attr, data)
	if n, s := g.fs.GetXAttr(nil, &h, attr, data); s.Ok() && len(data) > 0 && int(n) > len(data) {
		g.t.Errorf("attribute of %d bytes in %d", n, len(data))
	}
	if n, s := g.fs.ListXAttr(nil, &h, data); s.Ok() && len(data) > 0 && int(n) > len(data) {
		g.t.Errorf("list of %d bytes in %d", n, len(data))
	}
	g.fs.RemoveXAttr(nil, &h, attr)
}
