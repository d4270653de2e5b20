package workspace

import (
	"sync"
	"sync/atomic"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// desc is an O_PATH descriptor that several requests may use at once; the last
// one closes it, so that a number is never reused under a running request.
type desc struct {
	fd   int
	refs atomic.Int32
}

func newDesc(fd int) *desc {
	d := &desc{fd: fd}
	d.refs.Store(1)
	return d
}

// ref takes a reference unless the descriptor is closed already.
func (d *desc) ref() bool {
	for {
		r := d.refs.Load()
		if r <= 0 {
			return false
		}
		if d.refs.CompareAndSwap(r, r+1) {
			return true
		}
	}
}

func (d *desc) unref() {
	if d.refs.Add(-1) == 0 {
		unix.Close(d.fd)
	}
}

// descCache bounds how many nodes have a descriptor. It is a clock: a node that
// was used since the hand last passed is spared once, and a node with an open
// handle always, because it may have no name any more.
type descCache struct {
	mu     sync.Mutex
	nodes  []*node
	hand   int
	idle   *quota // descriptors of nodes that are not pinned, in all sessions
	counts int    // what idle has of this cache
	pinned int    // entries of nodes with open handles
	closed bool
}

// maxSweep bounds the work of one installation.
const maxSweep = 256

// install makes d the descriptor of n, or returns the one that n got meanwhile.
// The caller's reference moves from d to what is returned.
func (c *descCache) install(n *node, d *desc) *desc {
	c.mu.Lock()
	if old := n.desc.Load(); old != nil && old.ref() {
		c.mu.Unlock()
		d.unref()
		return old
	}
	if c.closed || n.dead.Load() {
		c.mu.Unlock()
		return d
	}
	d.refs.Add(1)
	n.desc.Store(d)
	n.used.Store(true)
	n.slot = len(c.nodes)
	c.nodes = append(c.nodes, n)
	if n.opens > 0 {
		c.pinned++
	}
	c.settle()
	victims := c.sweep(n)
	c.mu.Unlock()
	for _, v := range victims {
		v.unref()
	}
	return d
}

// settle tells the other sessions what this one keeps; c.mu is held.
func (c *descCache) settle() {
	now := len(c.nodes) - c.pinned
	c.idle.used.Add(int64(now - c.counts))
	c.counts = now
}

// sweep takes descriptors away until the bound is met; c.mu is held.
func (c *descCache) sweep(keep *node) []*desc {
	var victims []*desc
	for i := 0; i < maxSweep && c.idle.used.Load() > c.idle.max; i++ {
		if c.hand >= len(c.nodes) {
			c.hand = 0
		}
		n := c.nodes[c.hand]
		if n == keep || n.opens > 0 || n.used.Swap(false) {
			c.hand++
			continue
		}
		victims = append(victims, c.remove(n))
		c.settle()
	}
	return victims
}

// remove takes n's descriptor out; c.mu is held.
func (c *descCache) remove(n *node) *desc {
	last := len(c.nodes) - 1
	c.nodes[n.slot] = c.nodes[last]
	c.nodes[n.slot].slot = n.slot
	c.nodes[last] = nil
	c.nodes = c.nodes[:last]
	n.slot = noSlot
	return n.desc.Swap(nil)
}

// drop closes n's descriptor for good: n is dead.
func (c *descCache) drop(n *node) {
	c.mu.Lock()
	var d *desc
	if n.slot != noSlot {
		if n.opens > 0 {
			c.pinned--
		}
		d = c.remove(n)
		c.settle()
	}
	c.mu.Unlock()
	if d != nil {
		d.unref()
	}
}

// pin keeps the descriptor that n has, or gets next, until unpin.
func (c *descCache) pin(n *node) {
	c.mu.Lock()
	n.opens++
	if n.opens == 1 && n.slot != noSlot {
		c.pinned++
		c.settle()
	}
	c.mu.Unlock()
}

func (c *descCache) unpin(n *node) {
	c.mu.Lock()
	n.opens--
	if n.opens == 0 && n.slot != noSlot {
		c.pinned--
		c.settle()
	}
	c.mu.Unlock()
}

// relieve closes a part of the idle descriptors, for when the process has none
// left to give.
func (c *descCache) relieve() {
	c.mu.Lock()
	var victims []*desc
	for i := len(c.nodes) - 1; i >= 0 && len(victims) < maxSweep; i-- {
		if n := c.nodes[i]; n.opens == 0 {
			victims = append(victims, c.remove(n))
		}
	}
	c.settle()
	c.mu.Unlock()
	for _, v := range victims {
		v.unref()
	}
}

// maxDepth bounds the ancestors that one request may have to open again.
const maxDepth = 4096

// acquire returns n's descriptor, opening it when needed; the caller unrefs it.
func (f *FS) acquire(n *node) (*desc, fuse.Status) {
	return f.acquireAt(n, 0)
}

func (f *FS) acquireAt(n *node, depth int) (*desc, fuse.Status) {
	if d := n.desc.Load(); d != nil && d.ref() {
		if !n.used.Load() {
			n.used.Store(true)
		}
		return d, fuse.OK
	}
	loc := n.loc.Load()
	if loc == nil || depth > maxDepth {
		return nil, estale
	}
	pd, st := f.acquireAt(loc.parent, depth+1)
	if !st.Ok() {
		return nil, st
	}
	fd, st := f.openPath(pd.fd, loc.name)
	pd.unref()
	if !st.Ok() {
		return nil, st
	}
	var stx unix.Statx_t
	if st = statFD(fd, &stx); st.Ok() && !n.is(&stx) {
		st = estale
	}
	if !st.Ok() {
		unix.Close(fd)
		return nil, st
	}
	return f.cache.install(n, newDesc(fd)), fuse.OK
}

// openPath opens one component as a mere place; short of descriptors it closes
// idle ones and tries again.
func (f *FS) openPath(dirfd int, name string) (int, fuse.Status) {
	fd, st := openAt(dirfd, name, pathOnly, 0)
	if st == fuse.Status(unix.EMFILE) {
		f.cache.relieve()
		fd, st = openAt(dirfd, name, pathOnly, 0)
	}
	return fd, short(st)
}

// reopen opens the inode behind fd for reading or writing, like openPath.
func (f *FS) reopen(fd, flags int, mode uint32) (int, fuse.Status) {
	nfd, st := f.proc.reopen(fd, flags, mode)
	if st == fuse.Status(unix.EMFILE) {
		f.cache.relieve()
		nfd, st = f.proc.reopen(fd, flags, mode)
	}
	return nfd, short(st)
}

// short reports this process's shortage as the file system's, not the guest's
// process's.
func short(st fuse.Status) fuse.Status {
	if st == fuse.Status(unix.EMFILE) {
		return enfile
	}
	return st
}

// close ends the cache: from now on descriptors live as long as their request.
func (c *descCache) close() {
	c.mu.Lock()
	c.closed = true
	var all []*desc
	for len(c.nodes) > 0 {
		all = append(all, c.remove(c.nodes[len(c.nodes)-1]))
	}
	c.pinned = 0
	c.settle()
	c.mu.Unlock()
	for _, d := range all {
		d.unref()
	}
}
