package workspace

import (
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// handle is an open file or directory. Requests hold references, so that a
// RELEASE can't close the descriptor under a READ, whose number another open
// would get.
type handle struct {
	id    uint64
	node  *node
	fd    int // -1 for the synthetic root
	write bool
	refs  atomic.Int32

	mu  sync.Mutex // directories: one reader at a time
	pos uint64     // directories: where fd stands
}

// handles gives out handle numbers, each only once.
type handles struct {
	shards [shardCount]handleShard
	lastID atomic.Uint64
	count  *quota
	cache  *descCache
}

type handleShard struct {
	mu sync.RWMutex
	m  map[uint64]*handle
}

func newHandles(count *quota, cache *descCache) *handles {
	t := &handles{count: count, cache: cache}
	for i := range t.shards {
		t.shards[i].m = make(map[uint64]*handle)
	}
	return t
}

// reserve makes room for one handle. It is followed by add or cancel.
func (t *handles) reserve() bool { return t.count.take() }

func (t *handles) cancel() { t.count.give() }

// add makes fd, which it owns from now on, a handle of n, which is pinned.
func (t *handles) add(n *node, fd int, write bool) *handle {
	h := &handle{id: t.lastID.Add(1), node: n, fd: fd, write: write}
	h.refs.Store(1)
	s := &t.shards[h.id%shardCount]
	s.mu.Lock()
	s.m[h.id] = h
	s.mu.Unlock()
	return h
}

// get returns the handle with a number, if it is one of that node. The caller
// puts it back.
func (t *handles) get(id, node uint64) *handle {
	s := &t.shards[id%shardCount]
	s.mu.RLock()
	h := s.m[id]
	if h != nil && h.node.id == node {
		h.refs.Add(1) // it is in the map, so refs is above 0
	} else {
		h = nil
	}
	s.mu.RUnlock()
	return h
}

func (t *handles) put(h *handle) {
	if h.refs.Add(-1) > 0 {
		return
	}
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	t.cache.unpin(h.node)
	t.count.give()
}

// release takes the number back.
func (t *handles) release(id, node uint64) {
	s := &t.shards[id%shardCount]
	s.mu.Lock()
	h := s.m[id]
	if h != nil && h.node.id == node {
		delete(s.m, id)
	} else {
		h = nil
	}
	s.mu.Unlock()
	if h != nil {
		t.put(h)
	}
}

// releaseAll takes every number back.
func (t *handles) releaseAll() {
	for i := range t.shards {
		s := &t.shards[i]
		s.mu.Lock()
		all := s.m
		s.m = make(map[uint64]*handle)
		s.mu.Unlock()
		for _, h := range all {
			t.put(h)
		}
	}
}

// file returns the handle of a regular file, which the caller puts back.
func (f *FS) file(id, node uint64) (*handle, fuse.Status) {
	h := f.handles.get(id, node)
	if h == nil {
		return nil, fuse.EBADF
	}
	if !h.node.isRegular() {
		f.handles.put(h)
		return nil, fuse.EBADF
	}
	return h, fuse.OK
}

// dir returns the handle of a directory, which the caller puts back.
func (f *FS) dir(id, node uint64) (*handle, fuse.Status) {
	h := f.handles.get(id, node)
	if h == nil {
		return nil, fuse.EBADF
	}
	if !h.node.isDir() {
		f.handles.put(h)
		return nil, fuse.ENOTDIR
	}
	return h, fuse.OK
}
