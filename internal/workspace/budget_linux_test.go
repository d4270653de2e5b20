package workspace

import (
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// A guest that mounts again and again, while requests keep its old sessions,
// gets no more than with one session; and all of it back when they end.
func TestSessionsShareOneBudget(t *testing.T) {
	x := newFS(t, Options{MaxDescriptors: 40, MaxNodes: 100})
	for i := range 60 {
		write(t, x.hostRW+"/"+itoa(i), itoa(i))
	}
	use := func(s *FS) (nodes, handles int) {
		g := guest{t, s}
		w := g.mustLookup(fuse.FUSE_ROOT_ID, "w")
		for i := range 60 {
			id, st := g.lookup(w, itoa(i))
			if !st.Ok() {
				break
			}
			nodes++
			if d, st := s.acquire(s.nodes.get(id)); st.Ok() {
				d.unref() // leaves an idle descriptor
			}
			if _, st = g.open(id, unix.O_RDONLY); st.Ok() {
				handles++
			}
		}
		return nodes, handles
	}
	var sessions []*FS
	var nodes, handles int
	for range 4 {
		s := x.fs.session()
		sessions = append(sessions, s)
		n, h := use(s)
		nodes, handles = nodes+n, handles+h
	}
	b := x.fs.budget
	if nodes != 100 || handles != 16 {
		t.Errorf("%d nodes, %d handles", nodes, handles)
	}
	if n := b.idle.used.Load(); n > b.idle.max+int64(len(sessions)) {
		t.Errorf("%d idle descriptors, at most %d", n, b.idle.max)
	}
	for _, s := range sessions {
		s.OnUnmount()
	}
	if n, h, i := b.nodes.used.Load(), b.handles.used.Load(), b.idle.used.Load(); n != 0 || h != 0 || i != 0 {
		t.Errorf("%d nodes, %d handles, %d idle descriptors are left", n, h, i)
	}
	s := x.fs.session()
	if n, h := use(s); n != 60 || h != 16 {
		t.Errorf("afterwards %d nodes, %d handles", n, h)
	}
	s.OnUnmount()
}

func TestOpenFilesAreCapped(t *testing.T) {
	if b := newBudget(1<<20, 1); b.handles.max != maxHandles || b.idle.max != maxIdle {
		t.Errorf("%d handles, %d idle", b.handles.max, b.idle.max)
	}
}
