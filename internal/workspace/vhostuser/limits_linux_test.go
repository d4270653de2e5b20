package vhostuser

import (
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"
)

// A queue that gets no worker, because all are stuck, leaves nothing behind and
// can be started later.
func TestQueueWithoutAWorker(t *testing.T) {
	f := newFrontend(nil, newEcho(), quiet(), StopTimeout)
	fd, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Ftruncate(fd, 1<<20); err != nil {
		t.Fatal(err)
	}
	if f.mem, err = mapMemory([]memRegion{{guestBase, 1 << 20, userBase, 0}}, []int{fd}); err != nil {
		t.Fatal(err)
	}
	q := f.queues[1]
	q.size, q.kick, q.enabled = 64, newEventfd(t), true
	q.addr = vringAddr{1, 0, userBase, userBase + 32<<10, userBase + 16<<10}
	start := func() error {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.startLocked()
	}
	f.workerCount.Store(maxFrontendWorkers)
	before := openFDs(t)
	for range 3 {
		if err := start(); err == nil {
			t.Error("a queue without a worker was started")
		}
	}
	if after := openFDs(t); after != before {
		t.Errorf("%s descriptors before, %s after", before, after)
	}
	if refs := f.mem.refs.Load(); q.run != nil || refs != 1 {
		t.Errorf("run %v, %d references to the memory", q.run, refs)
	}
	f.workerCount.Store(0)
	if err := start(); err != nil || q.run == nil {
		t.Errorf("run %v: %v", q.run, err)
	}
	q.stop()
	f.workers.Wait()
	q.kick = -1 // the test closes it
	f.setMemory(nil)
}

// Memory that can't be replaced is at least out of reach.
func TestConceal(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	b, err := unix.Mmap(-1, 0, 8192, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	if err := conceal(b); err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("a write reached the memory")
			}
		}()
		b[4096] = 1
	}()
	if err := unix.Munmap(b); err != nil {
		t.Fatal(err)
	}
}
