package workspace

import (
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// domain is the set of rules that a node is under: which folder it was reached
// through, and which folder's rule holds there. They differ when one folder
// lies inside another. Nothing is linked or renamed from one domain to another.
type domain struct {
	outer, inner int // indexes into FS.folders
	readOnly     bool
}

// inode identifies a file on the host.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Statx_t) inode {
	return inode{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

// key identifies a node: the same file is another node in another domain.
type key struct {
	dom *domain
	inode
}

// location is where a node was last seen.
type location struct {
	parent *node
	name   string
}

const noSlot = -1

// node is an inode that the guest's kernel knows by a number.
type node struct {
	id    uint64
	key   key
	mix   uint64 // keeps inode numbers of different devices apart
	ftype uint16 // S_IFMT of the mode: an inode never changes it
	btime atomic.Int64
	dead  atomic.Bool
	used  atomic.Bool // since the clock's hand passed

	desc atomic.Pointer[desc]     // changed under descCache.mu
	loc  atomic.Pointer[location] // changed under the shard's lock; nil: no name

	stamp atomic.Pointer[stamp] // as of the last open
	kids  atomic.Int64          // nodes whose location is in this one

	lookups uint64 // under the shard's lock: what the guest must forget
	slot    int    // under descCache.mu
	opens   int    // under descCache.mu: handles, which pin the descriptor
}

func (n *node) isDir() bool     { return n.ftype == unix.S_IFDIR }
func (n *node) isRegular() bool { return n.ftype == unix.S_IFREG }

// isRoot reports whether n is the synthetic root, which isn't on the host.
func (n *node) isRoot() bool { return n.id == fuse.FUSE_ROOT_ID }

func birth(st *unix.Statx_t) int64 {
	if st.Mask&unix.STATX_BTIME == 0 {
		return 0
	}
	return st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
}

// is reports whether st describes n. An inode number may be in use for a second
// file by now, which has another birth time.
func (n *node) is(st *unix.Statx_t) bool {
	return n.key.inode == inodeOf(st) && n.ftype == st.Mode&unix.S_IFMT && n.btime.Load() == birth(st)
}

const shardCount = 64

// table holds the nodes, by number and by identity.
type table struct {
	ids    [shardCount]idShard
	keys   [shardCount]keyShard
	lastID atomic.Uint64
	count  *quota
	drop   func(*node) // closes the descriptor of a node that is gone
}

type idShard struct {
	mu sync.RWMutex
	m  map[uint64]*node
}

type keyShard struct {
	mu sync.Mutex
	m  map[key]*node
}

// firstID is the first number given to a node that is not a root.
const firstID = 1 << 16

func newTable(count *quota, drop func(*node)) *table {
	t := &table{count: count, drop: drop}
	t.lastID.Store(firstID - 1)
	for i := range t.ids {
		t.ids[i].m = make(map[uint64]*node)
		t.keys[i].m = make(map[key]*node)
	}
	return t
}

func (t *table) keyShard(k key) *keyShard {
	h := (k.ino ^ k.dev*31) * 0x9e3779b97f4a7c15
	return &t.keys[h>>58]
}

// get returns the node with a number, or nil.
func (t *table) get(id uint64) *node {
	s := &t.ids[id%shardCount]
	s.mu.RLock()
	n := s.m[id]
	s.mu.RUnlock()
	return n
}

func (t *table) putID(n *node) {
	s := &t.ids[n.id%shardCount]
	s.mu.Lock()
	s.m[n.id] = n
	s.mu.Unlock()
}

func (t *table) deleteID(id uint64) {
	s := &t.ids[id%shardCount]
	s.mu.Lock()
	delete(s.m, id)
	s.mu.Unlock()
}

// enter counts one lookup of the file that st describes, found as name in
// parent (nil: it has no name), and returns its node, or nil when there are too
// many.
func (t *table) enter(k key, st *unix.Statx_t, mix uint64, parent *node, name string) *node {
	s := t.keyShard(k)
	s.mu.Lock()
	n := s.m[k]
	if n != nil && !t.same(n, st) {
		n = nil // the old one stays reachable by its number until forgotten
	}
	if n == nil {
		if !t.count.take() {
			s.mu.Unlock()
			return nil
		}
		n = &node{id: t.lastID.Add(1), key: k, mix: mix, ftype: st.Mode & unix.S_IFMT, slot: noSlot}
		n.btime.Store(birth(st))
		s.m[k] = n
		t.putID(n)
	}
	n.lookups++
	left := t.move(n, parent, name)
	s.mu.Unlock()
	t.releaseKid(left)
	return n
}

// same reports whether st is of n, whose inode number it has. While n is open
// the number can't have been used again.
func (t *table) same(n *node, st *unix.Statx_t) bool {
	if n.ftype != st.Mode&unix.S_IFMT {
		return false
	}
	b := birth(st)
	if n.btime.Load() == b {
		return true
	}
	if n.desc.Load() == nil {
		return false
	}
	n.btime.Store(b) // overlayfs: the file was copied up
	return true
}

// move records where n is and returns the directory that it left. The lock of
// n's shard is held.
func (t *table) move(n, parent *node, name string) *node {
	old := n.loc.Load()
	if n.dead.Load() || parent == nil || old != nil && old.parent == parent && old.name == name {
		return nil
	}
	if n.isDir() && below(parent, n) {
		return nil // seen while the host or another request moved it
	}
	parent.kids.Add(1)
	n.loc.Store(&location{parent, name})
	if old == nil {
		return nil
	}
	return old.parent
}

// below reports whether n is dir or, as far as is known, inside it.
func below(n, dir *node) bool {
	for i := 0; n != nil && i < maxDepth; i++ {
		if n == dir {
			return true
		}
		loc := n.loc.Load()
		if loc == nil {
			return false
		}
		n = loc.parent
	}
	return n != nil
}

// renamed records that the guest moved a file, if that has a node.
func (t *table) renamed(k key, parent *node, name string) {
	s := t.keyShard(k)
	s.mu.Lock()
	var left *node
	if n := s.m[k]; n != nil {
		left = t.move(n, parent, name)
	}
	s.mu.Unlock()
	t.releaseKid(left)
}

// forget takes back count lookups and returns the nodes that are gone then.
func (t *table) forget(n *node, count uint64) {
	s := t.keyShard(n.key)
	s.mu.Lock()
	n.lookups -= min(count, n.lookups)
	left := t.reap(s, n)
	s.mu.Unlock()
	t.releaseKid(left)
}

// releaseKid tells a directory that one node left it, and its parents in turn
// when that was what kept it.
func (t *table) releaseKid(n *node) {
	for n != nil {
		if n.kids.Add(-1) > 0 {
			return
		}
		s := t.keyShard(n.key)
		s.mu.Lock()
		next := t.reap(s, n)
		s.mu.Unlock()
		n = next
	}
}

// reap removes n if nothing refers to it, and returns the directory that it
// left then. The lock of n's shard, s, is held.
func (t *table) reap(s *keyShard, n *node) *node {
	if n.lookups > 0 || n.kids.Load() > 0 || n.dead.Load() || n.id < firstID {
		return nil
	}
	n.dead.Store(true)
	if s.m[n.key] == n {
		delete(s.m, n.key)
	}
	t.deleteID(n.id)
	t.count.give()
	t.drop(n)
	if old := n.loc.Swap(nil); old != nil {
		return old.parent
	}
	return nil
}

// clear removes every node but the roots, whatever the guest still holds.
func (t *table) clear() {
	for i := range t.ids {
		s := &t.ids[i]
		s.mu.RLock()
		all := make([]*node, 0, len(s.m))
		for id, n := range s.m {
			if id >= firstID {
				all = append(all, n)
			}
		}
		s.mu.RUnlock()
		for _, n := range all {
			t.remove(n)
		}
	}
}

func (t *table) remove(n *node) {
	s := t.keyShard(n.key)
	s.mu.Lock()
	n.lookups = 0
	n.kids.Store(0)
	t.reap(s, n)
	s.mu.Unlock()
}
