package workspace

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Files known to the guest cost memory, a million of them not much, and all of
// it comes back.
func TestManyNodes(t *testing.T) {
	const count, perDir = 1 << 18, 1 << 10
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	longName := strings.Repeat("n", nameMax)
	before := heap()
	table := newTable(&quota{max: 2 * count}, func(*node) {})
	dom := &domain{}
	root := &node{id: 2, ftype: unix.S_IFDIR, slot: noSlot, key: key{dom: dom}}
	nodes := make([]*node, 0, count)
	dir := root
	for i := range count {
		st := unix.Statx_t{Ino: uint64(i) + 10, Mode: unix.S_IFREG}
		if i%perDir == 0 {
			st.Mode = unix.S_IFDIR
			dir = root
		}
		n := table.enter(key{dom, inodeOf(&st)}, &st, 0, dir, longName[:nameMax-len(itoa(i))]+itoa(i))
		if i%perDir == 0 {
			dir = n
		}
		nodes = append(nodes, n)
	}
	each := (heap() - before) / count
	t.Logf("%d bytes a node", each)
	if each > 650 {
		t.Errorf("%d bytes a node", each)
	}
	for _, n := range nodes {
		if table.get(n.id) != n {
			t.Fatalf("node %d is lost", n.id)
		}
		table.forget(n, 1)
	}
	if n := table.count.used.Load(); n != 0 || root.kids.Load() != 0 {
		t.Errorf("%d nodes are left, %d in the root", n, root.kids.Load())
	}
}

// Directories that seem to contain each other, as seen by requests that a rename
// on the host overtook, must not keep each other.
func TestDirectoriesSeenInsideEachOther(t *testing.T) {
	table := newTable(&quota{max: 100}, func(*node) {})
	dom := &domain{}
	root := &node{id: 2, ftype: unix.S_IFDIR, slot: noSlot, key: key{dom: dom}}
	enter := func(ino uint64, parent *node, name string) *node {
		st := unix.Statx_t{Ino: ino, Mode: unix.S_IFDIR}
		return table.enter(key{dom, inodeOf(&st)}, &st, 0, parent, name)
	}
	a := enter(10, root, "a")
	b := enter(11, a, "b")
	if enter(10, b, "a") != a {
		t.Fatal("another node")
	}
	table.forget(a, 2)
	if a.dead.Load() {
		t.Error("a went before what is in it")
	}
	table.forget(b, 1)
	if n := table.count.used.Load(); n != 0 {
		t.Errorf("%d nodes are left", n)
	}
}
