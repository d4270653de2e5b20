package workspace

import (
	"os"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A hard link that the host made shares its content, like on any file system;
// removing or replacing it in the guest leaves the other name alone.
func TestHardLinkOfTheHost(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	must(t, os.Link(x.outside+"/secret", x.hostRW+"/linked"))
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	id := g.mustLookup(w, "linked")
	fh, s := g.open(id, unix.O_RDWR)
	if !s.Ok() {
		t.Fatal(s)
	}
	if n, s := x.fs.Write(nil, &fuse.WriteIn{InHeader: header(id), Fh: fh, Size: 6}, []byte("shared")); n != 6 || !s.Ok() {
		t.Errorf("wrote %d, %v", n, s)
	}
	wantText(t, x.outside+"/secret", "shared")
	h := header(w)
	if s := x.fs.Unlink(nil, &h, "linked"); !s.Ok() {
		t.Error(s)
	}
	wantText(t, x.outside+"/secret", "shared")
}

// Links of links, and links to nothing, are never followed, whatever is done to them.
func TestLinksAreNotFollowed(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	must(t, os.Symlink(x.outside+"/secret", x.hostRW+"/direct"))
	must(t, os.Symlink("direct", x.hostRW+"/chained"))
	must(t, os.Symlink(x.outside+"/new", x.hostRW+"/dangling"))
	must(t, os.Symlink("dangling", x.hostRW+"/toDangling"))
	w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	before := snapshot(t, x.outside)
	for _, name := range []string{"direct", "chained", "dangling", "toDangling"} {
		for _, flags := range []uint32{0, unix.O_EXCL, unix.O_TRUNC} {
			var out fuse.CreateOut
			if s := x.fs.Create(nil, &fuse.CreateIn{InHeader: header(w), Flags: unix.O_RDWR | unix.O_CREAT | flags, Mode: 0o666}, name, &out); s.Ok() {
				t.Errorf("create of %s succeeded", name)
			}
		}
		id := g.mustLookup(w, name)
		h := header(id)
		var out fuse.AttrOut
		for valid, want := range map[uint32]fuse.Status{
			fuse.FATTR_SIZE: fuse.EINVAL, fuse.FATTR_MODE: fuse.ENOTSUP, fuse.FATTR_UID: fuse.OK,
			fuse.FATTR_KILL_SUIDGID: fuse.OK, fuse.FATTR_MTIME: fuse.OK,
		} {
			if s := x.fs.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: fuse.SetAttrInCommon{InHeader: h, Valid: valid, Mode: 0o777, Mtime: 1}}, &out); s != want {
				t.Errorf("setattr %x of %s: %v", valid, name, s)
			}
		}
		if s := x.fs.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: h, Size: 1}, "user.a", []byte("b")); s.Ok() {
			t.Errorf("setxattr of %s succeeded", name)
		}
		if s := x.fs.RemoveXAttr(nil, &h, "user.a"); s.Ok() {
			t.Errorf("removexattr of %s succeeded", name)
		}
		if _, s := x.fs.GetXAttr(nil, &h, "user.a", make([]byte, 9)); s.Ok() {
			t.Errorf("getxattr of %s succeeded", name)
		}
	}
	if after := snapshot(t, x.outside); after != before {
		t.Errorf("the outside changed:\n%s\n%s", before, after)
	}
}

// Every operation that changes something, of a guest whose kernel does not know
// that the folder is read-only.
func TestReadOnlyHoldsForEveryOperation(t *testing.T) {
	x := newFS(t, Options{})
	g := guest{t, x.fs}
	write(t, x.hostRW+"/mine", "mine")
	r, w := g.mustLookup(fuse.FUSE_ROOT_ID, "r"), g.mustLookup(fuse.FUSE_ROOT_ID, "w")
	file, mine := g.mustLookup(r, "file"), g.mustLookup(w, "mine")
	h, fileH := header(r), header(file)
	before := snapshot(t, x.hostRO)
	var entry fuse.EntryOut
	var create fuse.CreateOut
	rename := func(from, to uint64, old, name string, flags uint32) fuse.Status {
		return x.fs.Rename(nil, &fuse.RenameIn{InHeader: header(from), Newdir: to, Flags: flags}, old, name)
	}
	for what, s := range map[string]fuse.Status{
		"rename within":   rename(r, r, "file", "new", 0),
		"rename in":       rename(w, r, "mine", "new", 0),
		"rename out":      rename(r, w, "file", "new", 0),
		"exchange":        rename(w, r, "mine", "file", unix.RENAME_EXCHANGE),
		"noreplace":       rename(r, r, "file", "new", unix.RENAME_NOREPLACE),
		"link within":     x.fs.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: file}, "new", &entry),
		"link in":         x.fs.Link(nil, &fuse.LinkIn{InHeader: h, Oldnodeid: mine}, "new", &entry),
		"link out":        x.fs.Link(nil, &fuse.LinkIn{InHeader: header(w), Oldnodeid: file}, "new", &entry),
		"unlink":          x.fs.Unlink(nil, &h, "file"),
		"rmdir":           x.fs.Rmdir(nil, &h, "dir"),
		"mkdir":           x.fs.Mkdir(nil, &fuse.MkdirIn{InHeader: h}, "new", &entry),
		"symlink":         x.fs.Symlink(nil, &h, "x", "new", &entry),
		"mknod":           x.fs.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: unix.S_IFREG}, "new", &entry),
		"mknod of a fifo": x.fs.Mknod(nil, &fuse.MknodIn{InHeader: h, Mode: unix.S_IFIFO}, "new", &entry),
		"tmpfile":         x.fs.Tmpfile(nil, &fuse.CreateIn{InHeader: h, Flags: unix.O_RDWR}, &create),
		"setxattr":        x.fs.SetXAttr(nil, &fuse.SetXAttrIn{InHeader: fileH, Size: 1}, "user.a", []byte("b")),
		"removexattr":     x.fs.RemoveXAttr(nil, &fileH, "user.a"),
	} {
		if s != fuse.EROFS {
			t.Errorf("%s: %v", what, s)
		}
	}
	fh, s := g.open(file, unix.O_RDONLY)
	if !s.Ok() {
		t.Fatal(s)
	}
	if _, s := x.fs.Write(nil, &fuse.WriteIn{InHeader: fileH, Fh: fh, Size: 1}, []byte("x")); s != fuse.EBADF {
		t.Errorf("write: %v", s)
	}
	// A handle of the writable folder opens nothing in the read-only one.
	other, s := g.open(mine, unix.O_RDWR)
	if !s.Ok() {
		t.Fatal(s)
	}
	if _, s := x.fs.Write(nil, &fuse.WriteIn{InHeader: fileH, Fh: other, Size: 1}, []byte("x")); s != fuse.EBADF {
		t.Errorf("write with another's handle: %v", s)
	}
	for what, in := range map[string]fuse.CopyFileRangeIn{
		"to read-only":     {InHeader: header(mine), FhIn: other, NodeIdOut: file, FhOut: fh},
		"handle of w as r": {InHeader: header(mine), FhIn: other, NodeIdOut: file, FhOut: other},
		"handle of r as w": {InHeader: header(mine), FhIn: fh, NodeIdOut: mine, FhOut: other},
	} {
		in.Len = 1
		if _, s := x.fs.CopyFileRange(nil, &in); s != fuse.EBADF {
			t.Errorf("copy %s: %v", what, s)
		}
	}
	var out fuse.AttrOut
	set := fuse.SetAttrInCommon{InHeader: header(mine), Fh: fh, Valid: fuse.FATTR_FH | fuse.FATTR_SIZE}
	if s := x.fs.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: set}, &out); s != fuse.EBADF {
		t.Errorf("setattr with a handle of another folder: %v", s)
	}
	set.InHeader, set.Fh = fileH, other
	if s := x.fs.SetAttr(nil, &fuse.SetAttrIn{SetAttrInCommon: set}, &out); s != fuse.EROFS {
		t.Errorf("setattr in a read-only folder with a writable handle: %v", s)
	}
	if after := snapshot(t, x.hostRO); after != before {
		t.Errorf("changed:\n%s\n%s", before, after)
	}
	wantText(t, x.hostRW+"/mine", "mine")
}

// A file that is open in the guest stays that file, also when the host puts
// another, or a link, in its place.
func TestHostReplacesAnOpenFile(t *testing.T) {
	for what, change := range map[string]func(x *fixture, path string) error{
		"unlinked": func(_ *fixture, path string) error { return os.Remove(path) },
		"replaced": func(x *fixture, path string) error {
			write(t, x.hostRW+"/fresh", "fresh")
			return os.Rename(x.hostRW+"/fresh", path)
		},
		"link instead": func(x *fixture, path string) error {
			must(t, os.Remove(path))
			return os.Symlink(x.outside+"/secret", path)
		},
	} {
		x := newFS(t, Options{})
		g := guest{t, x.fs}
		write(t, x.hostRW+"/f", "first")
		w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
		id := g.mustLookup(w, "f")
		fh, s := g.open(id, unix.O_RDWR)
		if !s.Ok() {
			t.Fatal(s)
		}
		must(t, change(x, x.hostRW+"/f"))
		if n, s := x.fs.Write(nil, &fuse.WriteIn{InHeader: header(id), Fh: fh, Size: 5}, []byte("FIRST")); n != 5 || !s.Ok() {
			t.Errorf("%s: wrote %d, %v", what, n, s)
		}
		if got, s := g.read(id, fh, 10); got != "FIRST" {
			t.Errorf("%s: read %q, %v", what, got, s)
		}
		if again, s := g.lookup(w, "f"); s.Ok() && again == id {
			t.Errorf("%s: another file has its number", what)
		}
		if what == "replaced" {
			wantText(t, x.hostRW+"/f", "fresh")
		}
		wantText(t, x.outside+"/secret", "canary")
	}
}
