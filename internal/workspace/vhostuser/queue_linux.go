package vhostuser

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// queue is one virtqueue as the front end has configured it. It runs, that is
// takes requests, while it has a kick descriptor, is enabled and isn't stopped.
type queue struct {
	index int
	front *frontend

	mu      sync.Mutex
	size    uint32
	addr    vringAddr
	base    uint16
	kick    int // descriptors are -1 if absent
	call    int
	err     int
	enabled bool
	broken  bool // no requests are taken until it is started again
	run     *run // nil when stopped

	// signals orders the change of call and err, which happens with mu held,
	// with makeRoom, which must not wait for mu. It is held for moments only.
	signals sync.Mutex

	// A request that outlived its run, because it got stuck on the host, is
	// answered if the queue goes on where it was stopped; lineage counts the
	// times when it didn't.
	lineage int
	stopped struct {
		valid bool
		addr  vringAddr
		base  uint16
	}
	lost []uint16
}

func newQueue(f *frontend, index int) *queue {
	return &queue{index: index, front: f, kick: -1, call: -1, err: -1}
}

// makeRoom lets a write to one of the queue's eventfds go on that holds mu.
func (q *queue) makeRoom() {
	q.signals.Lock()
	defer q.signals.Unlock()
	makeRoom(q.call)
	makeRoom(q.err)
}

// replaceSignal is replaceFD for call and err; q.mu is held.
func (q *queue) replaceSignal(slot *int, fd int) {
	q.signals.Lock()
	defer q.signals.Unlock()
	replaceFD(slot, fd)
}

// replaceFD swaps one of the queue's descriptors, which it closes.
func replaceFD(slot *int, fd int) {
	if *slot >= 0 {
		_ = unix.Close(*slot)
	}
	*slot = fd
}

// setKick gives the queue a kick descriptor and starts it.
func (q *queue) setKick(fd int) error {
	q.stop()
	q.mu.Lock()
	defer q.mu.Unlock()
	replaceFD(&q.kick, fd)
	return q.startLocked()
}

func (q *queue) setCall(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.replaceSignal(&q.call, fd)
	// An interrupt may have gone to the old descriptor while nobody listened.
	q.interrupt()
}

func (q *queue) setErr(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.replaceSignal(&q.err, fd)
}

// configure changes the queue's parameters, which is legal while it is stopped.
func (q *queue) configure(change func()) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.run != nil {
		return fmt.Errorf("queue %d is running", q.index)
	}
	change()
	return nil
}

func (q *queue) setEnabled(on bool) error {
	if !on {
		q.stop()
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.enabled = on
	return q.startLocked()
}

// startLocked starts the queue if all is there that it needs.
func (q *queue) startLocked() (err error) {
	mem := q.front.memory()
	if q.run != nil || !q.enabled || q.kick < 0 || q.size == 0 || mem == nil || q.addr.desc == 0 {
		return nil
	}
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("failed to start queue %d: %v", q.index, fault)
		}
	}()
	r, err := newRing(mem, q.size, q.addr, q.base)
	if err != nil {
		return fmt.Errorf("failed to start queue %d: %w", q.index, err)
	}
	p, err := newPoller(q.kick)
	if err != nil {
		return fmt.Errorf("failed to start queue %d: %w", q.index, err)
	}
	if !q.stopped.valid || q.stopped.base != q.base || q.stopped.addr != q.addr {
		q.lineage++
		q.lost = q.lost[:0]
	}
	q.broken = false
	mem.acquire()
	q.run = &run{q: q, poller: p, ring: r, mem: mem, lineage: q.lineage,
		indirect: q.front.hasFeature(featureIndirect), drained: make(chan struct{})}
	if !q.run.addWorker() {
		q.run = nil // nobody would ever clean up behind it
		p.close()
		mem.release()
		return fmt.Errorf("failed to start queue %d: %d requests are stuck already", q.index, maxFrontendWorkers)
	}
	q.flushLost()
	return nil
}

// moveTo makes a running queue use m instead of the memory it has. With forget,
// the requests in flight are on their own from now on.
func (q *queue) moveTo(m *memory, forget bool) (err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.run == nil {
		return nil
	}
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("queue %d: %v", q.index, fault)
		}
		if err != nil {
			q.breakLocked(err)
		}
	}()
	r, err := newRing(m, q.size, q.addr, q.run.ring.lastAvail)
	if err != nil {
		return fmt.Errorf("queue %d lost its ring: %w", q.index, err)
	}
	m.acquire()
	q.run.mem.release()
	q.run.mem, q.run.ring = m, r
	if forget {
		q.run.epoch++
		q.run.inflight = 0
	}
	return nil
}

// stop makes the queue take no more requests, and waits for those in flight,
// but not longer than StopTimeout. It returns the index to go on from.
func (q *queue) stop() uint16 {
	r := q.halt()
	if r == nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		return q.base
	}
	late := time.NewTimer(q.front.stopTimeout)
	defer late.Stop()
	select {
	case <-r.drained:
	case <-late.C:
		q.front.abandon(r)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.base
}

// halt is the part of stop that doesn't wait; nil if the queue doesn't run.
func (q *queue) halt() *run {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.run
	if r == nil {
		return nil
	}
	q.run = nil
	q.base = r.ring.lastAvail
	q.stopped.valid, q.stopped.addr, q.stopped.base = true, q.addr, q.base
	r.halting = true
	r.checkDrained()
	r.poller.stopAll()
	return r
}

// close stops the queue for good, without waiting, and closes its descriptors.
func (q *queue) close() {
	q.halt()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopped.valid = false
	q.lineage++
	for _, fd := range []*int{&q.kick, &q.call, &q.err} {
		q.replaceSignal(fd, -1)
	}
}

// interrupt tells the driver to look at the used ring; q.mu is held, which
// keeps the descriptor open.
func (q *queue) interrupt() {
	if q.call >= 0 {
		signal(q.call)
	}
}

// fail marks the queue broken: what the driver wrote makes no sense.
func (q *queue) fail(r *run, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.run == r {
		q.breakLocked(err)
	}
}

func (q *queue) breakLocked(err error) {
	if q.broken {
		return
	}
	q.broken = true
	q.front.log.Warn("virtqueue is broken until the guest resets the device", "queue", q.index, "error", err)
	if q.err >= 0 {
		signal(q.err)
	}
}

// flushLost answers requests whose worker came back too late; q.mu is held.
func (q *queue) flushLost() {
	lost := q.lost
	q.lost = nil
	for _, head := range lost {
		if err := q.run.reject(head); err != nil {
			q.breakLocked(err)
			return
		}
	}
}
