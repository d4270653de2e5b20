package workspace

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// These measure the file system's own share of a request, without a transport.

func benchFS(b *testing.B, files int) (guest, uint64) {
	b.Helper()
	x := newFS(b, Options{})
	for i := range files {
		write(b, filepath.Join(x.hostRW, "f"+itoa(i)), "some content")
	}
	g := guest{b, x.fs}
	return g, g.mustLookup(fuse.FUSE_ROOT_ID, "w")
}

func BenchmarkLookupKnown(b *testing.B) {
	g, w := benchFS(b, 1)
	h := header(w)
	var out fuse.EntryOut
	b.ReportAllocs()
	for b.Loop() {
		g.fs.Lookup(nil, &h, "f0", &out)
	}
}

func BenchmarkLookupMissing(b *testing.B) {
	g, w := benchFS(b, 0)
	h := header(w)
	var out fuse.EntryOut
	b.ReportAllocs()
	for b.Loop() {
		g.fs.Lookup(nil, &h, "none", &out)
	}
}

func BenchmarkLookupForget(b *testing.B) {
	g, w := benchFS(b, 1)
	h := header(w)
	var out fuse.EntryOut
	b.ReportAllocs()
	for b.Loop() {
		g.fs.Lookup(nil, &h, "f0", &out)
		g.fs.Forget(out.NodeId, 1)
	}
}

func BenchmarkGetAttr(b *testing.B) {
	g, w := benchFS(b, 1)
	in := &fuse.GetAttrIn{InHeader: header(g.mustLookup(w, "f0"))}
	var out fuse.AttrOut
	b.ReportAllocs()
	for b.Loop() {
		g.fs.GetAttr(nil, in, &out)
	}
}

func BenchmarkOpenReadRelease(b *testing.B) {
	g, w := benchFS(b, 1)
	h := header(g.mustLookup(w, "f0"))
	buf := make([]byte, 4096)
	var out fuse.OpenOut
	b.ReportAllocs()
	for b.Loop() {
		g.fs.Open(nil, &fuse.OpenIn{InHeader: h}, &out)
		r, _ := g.fs.Read(nil, &fuse.ReadIn{InHeader: h, Fh: out.Fh, Size: 4096}, buf)
		_, _ = r.Bytes(buf)
		r.Done()
		g.fs.Release(nil, &fuse.ReleaseIn{InHeader: h, Fh: out.Fh})
	}
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{4 << 10, 128 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dK", size>>10), func(b *testing.B) {
			g, w := benchFS(b, 1)
			must(b, os.Truncate(filepath.Join(g.fs.folders[0].Path, "f0"), 1<<20))
			h := header(g.mustLookup(w, "f0"))
			fh, _ := g.open(h.NodeId, unix.O_RDONLY)
			buf := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				mine := make([]byte, len(buf))
				for pb.Next() {
					r, _ := g.fs.Read(nil, &fuse.ReadIn{InHeader: h, Fh: fh, Size: uint32(size)}, mine)
					_, _ = r.Bytes(mine)
					r.Done()
				}
			})
		})
	}
}

func BenchmarkWrite4K(b *testing.B) {
	g, w := benchFS(b, 1)
	h := header(g.mustLookup(w, "f0"))
	fh, _ := g.open(h.NodeId, unix.O_WRONLY)
	data := [][]byte{make([]byte, 4096)}
	b.SetBytes(4096)
	b.ReportAllocs()
	for b.Loop() {
		g.fs.Writev(nil, &fuse.WriteIn{InHeader: h, Fh: fh, Size: 4096}, data)
	}
}

func BenchmarkReadDirPlus(b *testing.B) {
	const files = 1000
	g, w := benchFS(b, files)
	h := header(w)
	buf := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		var o fuse.OpenOut
		g.fs.OpenDir(nil, &fuse.OpenIn{InHeader: h}, &o)
		for off, seen := uint64(0), -1; seen != 0; {
			out := fuse.NewDirEntryList(buf, off)
			g.fs.ReadDirPlus(nil, &fuse.ReadIn{InHeader: h, Fh: o.Fh, Offset: off, Size: 4096}, out)
			seen, off = len(out.Bytes()), out.Offset
		}
		g.fs.ReleaseDir(&fuse.ReleaseIn{InHeader: h, Fh: o.Fh})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/files, "ns/entry")
}

func BenchmarkCreateUnlink(b *testing.B) {
	g, w := benchFS(b, 0)
	h := header(w)
	b.ReportAllocs()
	for b.Loop() {
		var out fuse.CreateOut
		g.fs.Create(nil, &fuse.CreateIn{InHeader: h, Flags: unix.O_RDWR, Mode: 0o644}, "f", &out)
		g.fs.Release(nil, &fuse.ReleaseIn{InHeader: header(out.NodeId), Fh: out.Fh})
		g.fs.Unlink(nil, &h, "f")
		g.fs.Forget(out.NodeId, 1)
	}
}
