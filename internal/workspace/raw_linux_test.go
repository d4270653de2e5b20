package workspace

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// guest calls the file system without a kernel that keeps the rules.
type guest struct {
	t  testing.TB
	fs *FS
}

func header(node uint64) fuse.InHeader { return fuse.InHeader{NodeId: node} }

func (g guest) lookup(parent uint64, name string) (uint64, fuse.Status) {
	var out fuse.EntryOut
	h := header(parent)
	s := g.fs.Lookup(nil, &h, name, &out)
	if s.Ok() && out.NodeId == 0 {
		s = fuse.ENOENT
	}
	return out.NodeId, s
}

func (g guest) mustLookup(parent uint64, name string) uint64 {
	g.t.Helper()
	id, s := g.lookup(parent, name)
	if !s.Ok() {
		g.t.Fatalf("lookup %q: %v", name, s)
	}
	return id
}

func (g guest) open(node uint64, flags uint32) (uint64, fuse.Status) {
	var out fuse.OpenOut
	s := g.fs.Open(nil, &fuse.OpenIn{InHeader: header(node), Flags: flags}, &out)
	return out.Fh, s
}

func (g guest) read(node, fh uint64, n int) (string, fuse.Status) {
	r, s := g.fs.Read(nil, &fuse.ReadIn{InHeader: header(node), Fh: fh, Size: uint32(n)}, make([]byte, n))
	if !s.Ok() {
		return "", s
	}
	defer r.Done()
	b, s := r.Bytes(make([]byte, n))
	return string(b), s
}

func TestBadNamesAreRefused(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	before := snapshot(t, filepath.Dir(x.hostRW))
	for _, name := range []string{"", ".", "..", "/", "a/b", "../outside", "../outside/secret", "/etc/passwd", "a\x00b", strings.Repeat("x", 256), strings.Repeat("x", 70000)} {
		var entry fuse.EntryOut
		var create fuse.CreateOut
		h := header(w)
		file := g.mustLookup(g.mustLookup(fuse.FUSE_ROOT_ID, "r"), "file")
		for what, s := range map[string]fuse.Status{
			"lookup":  x.fs.Lookup(nil, &h, name, &entry),
			"mkdir":   x.fs.Mkdir(nil, &fuse.MkdirIn{InHeader: h, Mode: 0o755}, name, &entry),
			"mknod":   x.fs.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: unix.S_IFREG}, name, &entry),
			"symlink": x.fs.Symlink(nil, &h, "target", name, &entry),
			"link":    x.fs.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: file}, name, &entry),
			"create":  x.fs.Create(nil, &fuse.CreateIn{InHeader: h, Flags: unix.O_RDWR, Mode: 0o644}, name, &create),
			"unlink":  x.fs.Unlink(nil, &h, name),
			"rmdir":   x.fs.Rmdir(nil, &h, name),
			"from":    x.fs.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: w}, name, "ok"),
			"to":      x.fs.Rename(nil, &fuse.RenameIn{InHeader: h, Newdir: w}, "ok", name),
		} {
			if s != fuse.EINVAL && s != fuse.Status(unix.ENAMETOOLONG) {
				t.Errorf("%s of %.20q: %v", what, name, s)
			}
		}
	}
	if after := snapshot(t, filepath.Dir(x.hostRW)); after != before {
		t.Errorf("something changed:\n%s\n%s", before, after)
	}
	for _, r := range x.refusals.all {
		if len(r.Path) > 4*maxShownPath+2 || strings.ContainsAny(r.Path, "\n\x1b\x00") {
			t.Fatalf("refusal shows %q", r.Path)
		}
	}
}

func TestStaleAndForgedNumbers(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	write(t, x.hostRW+"/a", "aaaa")
	write(t, x.hostRW+"/b", "bbbb")
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	a, b := g.mustLookup(w, "a"), g.mustLookup(w, "b")
	fh, s := g.open(a, unix.O_RDONLY)
	if !s.Ok() {
		t.Fatal(s)
	}
	if got, s := g.read(a, fh, 10); got != "aaaa" {
		t.Errorf("read %q, %v", got, s)
	}
	for what, s := range map[string]fuse.Status{
		"another node's handle": second(g.read(b, fh, 10)),
		"forged handle":         second(g.read(a, fh+1, 10)),
		"handle 0":              second(g.read(a, 0, 10)),
		"largest handle":        second(g.read(a, math.MaxUint64, 10)),
		"write with it":         second(x.fs.Write(nil, &fuse.WriteIn{InHeader: header(a), Fh: fh, Size: 1}, []byte("x"))),
		"copy into it": second(x.fs.CopyFileRange(nil, &fuse.CopyFileRangeIn{
			InHeader: header(a), FhIn: fh, NodeIdOut: a, FhOut: fh, Len: 1, OffOut: 2})),
		"as a directory": x.fs.FsyncDir(nil, &fuse.FsyncIn{InHeader: header(a), Fh: fh}),
		"list it":        x.fs.ReadDir(nil, &fuse.ReadIn{InHeader: header(a), Fh: fh, Size: 100}, fuse.NewDirEntryList(make([]byte, 100), 0)),
	} {
		if s != fuse.EBADF && s != fuse.ENOTDIR {
			t.Errorf("%s: %v", what, s)
		}
	}
	for _, id := range []uint64{0, b + 1, 7, firstID - 1, math.MaxUint64, math.MaxUint32} {
		if _, s := g.open(id, 0); s != estale {
			t.Errorf("open of node %d: %v", id, s)
		}
		if _, s := g.lookup(id, "a"); s != estale {
			t.Errorf("lookup in node %d: %v", id, s)
		}
		x.fs.Forget(id, math.MaxUint64)
	}
	x.fs.Forget(a, math.MaxUint64)
	if _, s := g.open(a, 0); s != estale {
		t.Errorf("open of a forgotten node: %v", s)
	}
	if got, s := g.read(a, fh, 10); got != "aaaa" {
		t.Errorf("an open handle of it: %q, %v", got, s)
	}
	x.fs.Release(nil, &fuse.ReleaseIn{InHeader: header(a), Fh: fh})
	x.fs.Release(nil, &fuse.ReleaseIn{InHeader: header(a), Fh: fh})
	if _, s := g.read(a, fh, 10); s != fuse.EBADF {
		t.Errorf("read after release: %v", s)
	}
	if again := g.mustLookup(w, "a"); again == a {
		t.Error("a node number was used twice")
	}
	x.fs.Forget(w, math.MaxUint64)
	x.fs.Forget(fuse.FUSE_ROOT_ID, math.MaxUint64)
	g.mustLookup(g.mustLookup(fuse.FUSE_ROOT_ID, "w"), "a")
}

func second[A, B any](_ A, b B) B { return b }

// A guest may ask to open what its kernel never would.
func TestOnlyRegularFilesAreOpened(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	must(t, unix.Mkfifo(x.hostRW+"/fifo", 0o666))
	must(t, unix.Mknod(x.hostRW+"/sock", unix.S_IFSOCK|0o666, 0))
	must(t, os.Symlink(x.outside+"/secret", x.hostRW+"/link"))
	names := []string{"fifo", "sock", "link"}
	if unix.Mknod(x.hostRW+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))) == nil {
		names = append(names, "null")
	}
	for _, name := range names {
		id := g.mustLookup(w, name)
		for _, flags := range []uint32{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR, unix.O_RDWR | unix.O_TRUNC, 3} {
			if _, s := g.open(id, flags); s.Ok() {
				t.Errorf("%s was opened with %o", name, flags)
			}
		}
		var entry fuse.EntryOut
		h := header(id)
		if s := x.fs.Lookup(nil, &h, "secret", &entry); s != fuse.ENOTDIR {
			t.Errorf("lookup in %s: %v", name, s)
		}
		var out fuse.AttrOut
		in := &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: h, Valid: fuse.FATTR_SIZE}}
		if s := x.fs.SetAttr(nil, in, &out); s.Ok() {
			t.Errorf("%s was truncated", name)
		}
		in.Valid, in.Mode = fuse.FATTR_MODE, 0o4777
		_ = x.fs.SetAttr(nil, in, &out)
		var create fuse.CreateOut
		if s := x.fs.Create(nil, &fuse.CreateIn{InHeader: header(w), Flags: unix.O_RDWR | unix.O_TRUNC}, name, &create); s.Ok() {
			t.Errorf("%s was opened by create", name)
		}
	}
	wantText(t, x.outside+"/secret", "canary")
	info, err := os.Stat(x.outside + "/secret")
	must(t, err)
	if info.Mode() != 0o644 {
		t.Errorf("the outside has mode %v", info.Mode())
	}
}

func TestReadOnlyHoldsWithoutAKernel(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	r := g.mustLookup(fuse.FUSE_ROOT_ID, "r")
	file := g.mustLookup(r, "file")
	before := snapshot(t, x.hostRO)
	for _, flags := range []uint32{unix.O_WRONLY, unix.O_RDWR, unix.O_TRUNC, unix.O_RDONLY | unix.O_TRUNC, unix.O_WRONLY | unix.O_APPEND} {
		if _, s := g.open(file, flags); s != fuse.EROFS {
			t.Errorf("open with %o: %v", flags, s)
		}
	}
	var create fuse.CreateOut
	if s := x.fs.Create(nil, &fuse.CreateIn{InHeader: header(r)}, "file", &create); s != fuse.EROFS {
		t.Errorf("create of what exists: %v", s)
	}
	fh, s := g.open(file, unix.O_RDONLY)
	if !s.Ok() {
		t.Fatal(s)
	}
	if s := x.fs.Fallocate(nil, &fuse.FallocateIn{InHeader: header(file), Fh: fh, Length: 1 << 20}); s != fuse.EBADF {
		t.Errorf("fallocate: %v", s)
	}
	var out fuse.AttrOut
	for valid := uint32(1); valid <= fuse.FATTR_KILL_SUIDGID; valid <<= 1 {
		in := &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: header(file), Fh: fh, Valid: valid}}
		if s := x.fs.SetAttr(nil, in, &out); s != fuse.EROFS {
			t.Errorf("setattr %b: %v", valid, s)
		}
	}
	if after := snapshot(t, x.hostRO); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
}

func TestLimits(t *testing.T) {
	x := newFS(t, Options{MaxDescriptors: 40, MaxNodes: 100})
	g := guest{t, x.fs}
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	for i := range 200 {
		write(t, x.hostRW+"/"+itoa(i), itoa(i))
	}
	var ids []uint64
	var s fuse.Status
	for i := range 200 {
		var id uint64
		if id, s = g.lookup(w, itoa(i)); !s.Ok() {
			break
		}
		ids = append(ids, id)
	}
	if s != enfile || len(ids) != 100 {
		t.Errorf("%d nodes, then %v", len(ids), s)
	}
	var handles []uint64
	for _, id := range ids {
		var fh uint64
		if fh, s = g.open(id, 0); !s.Ok() {
			break
		}
		handles = append(handles, fh)
	}
	if s != enfile || len(handles) != 16 {
		t.Errorf("%d handles, then %v", len(handles), s)
	}
	for i, fh := range handles {
		if got, s := g.read(ids[i], fh, 10); got != itoa(i) {
			t.Errorf("handle %d reads %q, %v", i, got, s)
		}
		x.fs.Release(nil, &fuse.ReleaseIn{InHeader: header(ids[i]), Fh: fh})
	}
	for _, id := range ids {
		x.fs.Forget(id, 1)
	}
	if n := x.fs.nodes.count.used.Load(); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
	if n := x.fs.handles.count.used.Load(); n != 0 {
		t.Errorf("%d handles are left", n)
	}
}

// Whatever the guest did not give back, Close does.
func TestCloseLeavesNoDescriptor(t *testing.T) {
	count := func() int {
		e, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(e)
	}
	dir := t.TempDir()
	for i := range 50 {
		must(t, os.MkdirAll(filepath.Join(dir, itoa(i), "sub"), 0o755))
		write(t, filepath.Join(dir, itoa(i), "sub", "f"), "")
	}
	before := count()
	f, err := New([]Folder{{Name: "w", Path: dir}}, Options{})
	must(t, err)
	s := f.session()
	g := guest{t, s}
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	for i := range 50 {
		id := g.mustLookup(g.mustLookup(g.mustLookup(w, itoa(i)), "sub"), "f")
		if _, s := g.open(id, 0); !s.Ok() {
			t.Fatal(s)
		}
	}
	must(t, f.Close()) // the session has its own references
	if _, s := g.lookup(w, "0"); !s.Ok() {
		t.Errorf("session after the close of another: %v", s)
	}
	s.OnUnmount()
	if after := count(); after != before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if _, st := g.lookup(w, "0"); st != estale {
		t.Errorf("lookup after close: %v", st)
	}
}

func TestPseudoFileSystemsAreNotShared(t *testing.T) {
	if _, err := New([]Folder{{Name: "p", Path: "/proc"}}, Options{}); err == nil {
		t.Error("/proc could be shared")
	}
	f, err := New([]Folder{{Name: "root", Path: "/"}}, Options{})
	must(t, err)
	defer f.Close()
	g := guest{t, f}
	root := g.mustLookup(fuse.FUSE_ROOT_ID, "root")
	for _, name := range []string{"proc", "sys"} {
		if _, s := g.lookup(root, name); s != fuse.EACCES {
			t.Errorf("/%s below a folder: %v", name, s)
		}
	}
}

func TestFoldersAreChecked(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "")
	must(t, os.Symlink(dir, dir+"/link"))
	for what, folders := range map[string][]Folder{
		"none":     nil,
		"relative": {{Name: "a", Path: "tmp"}},
		"file":     {{Name: "a", Path: dir + "/file"}},
		"link":     {{Name: "a", Path: dir + "/link"}},
		"missing":  {{Name: "a", Path: dir + "/missing"}},
		"slash":    {{Name: "a/b", Path: dir}},
		"dots":     {{Name: "..", Path: dir}},
		"twice":    {{Name: "a", Path: dir}, {Name: "a", Path: dir}},
	} {
		if f, err := New(folders, Options{}); err == nil {
			f.Close()
			t.Errorf("%s: accepted", what)
		}
	}
}
