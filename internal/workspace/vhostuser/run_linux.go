package vhostuser

import (
	"fmt"
	"runtime/debug"
)

// maxWorkers bounds the requests of one queue that are worked on at once.
const maxWorkers = 16

// run is a queue's life from one start to the next stop: its ring, and the
// workers on it. Its fields are guarded by the queue's mutex.
//
// A worker takes a request and handles it itself. Before that it makes sure
// that somebody else looks after the next one: it wakes another worker if more
// is pending already, and starts one if none is asleep. So a lone request costs
// no hand-over, and a slow one holds up nobody.
type run struct {
	q        *queue
	poller   *poller
	ring     ring
	mem      *memory
	lineage  int
	indirect bool

	workers  int
	asleep   int
	inflight int // of this epoch
	epoch    int
	halting  bool
	drained  chan struct{} // closed when halting and nothing is in flight
}

// task is a request that a worker holds.
type task struct {
	head  uint16
	epoch int
	ring  ring    // as of when the request was taken
	mem   *memory // with a reference
	chain chain
}

// addWorker starts a worker if the limits allow it.
func (r *run) addWorker() bool {
	if r.workers >= maxWorkers || !r.q.front.addWorker() {
		return false
	}
	r.workers++
	go r.work()
	return true
}

func (r *run) work() {
	defer r.q.front.workerDone()
	defer r.leave()
	debug.SetPanicOnFault(true)
	var t task
	for {
		found, stop := r.take(&t)
		if found {
			r.handle(&t)
		} else if stop || !r.poller.wait() {
			return
		} else {
			r.awake()
		}
	}
}

// leave ends a worker; the last one of a run that is halting cleans up.
func (r *run) leave() {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	r.workers--
	if r.workers == 0 {
		r.poller.close()
		r.mem.release()
	}
}

func (r *run) awake() {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	r.asleep--
}

// take gets the next request into t. Without one, the worker counts as asleep.
func (r *run) take(t *task) (found, stop bool) {
	r.q.mu.Lock()
	defer r.q.mu.Unlock()
	if r.halting {
		return false, true
	}
	found, err := r.takeLocked(t)
	if err != nil {
		r.q.breakLocked(err)
	}
	if !found {
		r.asleep++
	}
	return found, false
}

func (r *run) takeLocked(t *task) (found bool, err error) {
	if r.q.broken {
		return false, nil
	}
	defer func() {
		if fault := recover(); fault != nil {
			found, err = false, fmt.Errorf("failed to read the ring: %v", fault)
		}
	}()
	n, err := r.ring.pending()
	if n == 0 || err != nil {
		return false, err
	}
	if t.head, err = r.ring.next(); err != nil {
		return false, err
	}
	r.inflight++
	t.ring, t.mem, t.epoch = r.ring, r.mem, r.epoch
	t.mem.acquire()
	if r.asleep == 0 {
		r.addWorker()
	} else if n > 1 {
		r.poller.wakeOne()
	}
	return true, nil
}

// handle works on a request and gives the chain back.
func (r *run) handle(t *task) {
	n, err := r.process(t)
	if err != nil {
		r.q.fail(r, err)
	}
	r.finish(t, n, err == nil)
}

func (r *run) process(t *task) (n int, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("failed to handle a request: %v", fault)
		}
	}()
	if err := t.ring.chain(&t.chain, t.mem, t.head, r.indirect); err != nil {
		return 0, err
	}
	return r.q.front.handler.Handle(t.chain.in, t.chain.out), nil
}

// finish puts the chain into the used ring, if that is still there.
func (r *run) finish(t *task, n int, ok bool) {
	q := r.q
	q.mu.Lock()
	defer q.mu.Unlock()
	defer t.mem.release()
	if t.epoch == r.epoch {
		r.inflight--
	}
	defer r.checkDrained()
	switch {
	case !ok || q.lineage != r.lineage:
	case t.mem.revoked.Load():
		q.lost = append(q.lost, t.head)
		if q.run != nil {
			q.flushLost()
		}
	default:
		if err := r.put(t.head, n); err != nil {
			q.breakLocked(err)
		}
	}
}

func (r *run) put(head uint16, n int) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("failed to write the used ring: %v", fault)
		}
	}()
	if r.ring.put(head, uint32(n)) {
		r.q.interrupt()
	}
	return nil
}

// reject answers a request, which was taken in an earlier run, with EIO.
func (r *run) reject(head uint16) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("failed to answer a request: %v", fault)
		}
	}()
	var c chain
	if err := r.ring.chain(&c, r.mem, head, r.indirect); err != nil {
		return err
	}
	return r.put(head, r.q.front.handler.Reject(c.in, c.out))
}

func (r *run) checkDrained() {
	if r.halting && r.inflight == 0 {
		select {
		case <-r.drained:
		default:
			close(r.drained)
		}
	}
}
