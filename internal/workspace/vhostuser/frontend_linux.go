package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxQueues is the high-priority queue and up to 16 request queues.
	maxQueues = 17
	// maxFrontendWorkers bounds the requests of one front end that are worked
	// on at once, those included that are stuck from before a reset.
	maxFrontendWorkers = 128
)

// frontend is one connected monitor. All of its methods run on the goroutine
// that reads its messages, unless they say otherwise.
type frontend struct {
	conn        *net.UnixConn
	handler     Handler
	log         *slog.Logger
	stopTimeout time.Duration

	features         uint64
	protocolFeatures uint64
	mem              *memory   // nil until SET_MEM_TABLE
	former           []*memory // tables that requests in flight may still use
	queues           [maxQueues]*queue

	workers     sync.WaitGroup
	workerCount atomic.Int64
}

func newFrontend(conn *net.UnixConn, h Handler, log *slog.Logger, stopTimeout time.Duration) *frontend {
	f := &frontend{conn: conn, handler: h, log: log, stopTimeout: stopTimeout}
	for i := range f.queues {
		f.queues[i] = newQueue(f, i)
	}
	return f
}

// serve speaks with the front end until it hangs up, then lets go of all that
// belonged to it. It returns when the last worker has ended.
func (f *frontend) serve(ctx context.Context) error {
	debug.SetPanicOnFault(true)
	hangUp := context.AfterFunc(ctx, func() { _ = f.conn.Close() })
	defer hangUp()
	ending, end := context.WithCancel(ctx)
	ended, freed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(freed)
		<-ending.Done()
		f.freeWriters(ended)
	}()
	err := f.converse()
	end()
	_ = f.conn.Close()
	f.tearDown()
	close(ended)
	<-freed
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || ctx.Err() != nil {
		return nil
	}
	return err
}

func (f *frontend) converse() error {
	var m message
	for {
		if err := m.read(f.conn); err != nil {
			return err
		}
		reply, err := f.dispatch(&m)
		closeFDs(m.fds)
		if err != nil {
			f.log.Warn("vhost-user message refused", "message", int(m.request), "error", err)
		}
		if reply == nil && m.flags&flagNeedAck != 0 && f.protocolFeatures&protocolReplyAck != 0 {
			var code uint64
			if err != nil {
				code = 1
			}
			reply = appendU64(nil, code)
		}
		if reply != nil {
			if _, err := f.conn.Write(appendReply(nil, m.request, reply)); err != nil {
				return fmt.Errorf("failed to reply to the front end: %w", err)
			}
		}
	}
}

// freeWriters lets nobody wait in a write to an eventfd that the front end has
// filled, until ended. It runs beside the conversation and the tear-down, which
// such a writer keeps from going on.
func (f *frontend) freeWriters(ended <-chan struct{}) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		for _, q := range f.queues {
			q.makeRoom()
		}
		select {
		case <-ended:
			return
		case <-again.C:
		}
	}
}

// tearDown is the end of a front end. Requests that are stuck on the host get
// their time, then they lose the guest's memory; their workers are waited for.
func (f *frontend) tearDown() {
	var runs []*run
	for _, q := range f.queues {
		if r := q.halt(); r != nil {
			runs = append(runs, r)
		}
	}
	late := time.NewTimer(f.stopTimeout)
	defer late.Stop()
wait:
	for _, r := range runs {
		select {
		case <-r.drained:
		case <-late.C:
			f.log.Warn("requests are stuck on the host after the machine went away")
			f.revokeMemory()
			break wait
		}
	}
	for _, q := range f.queues {
		q.close()
	}
	f.setMemory(nil)
	f.workers.Wait()
	f.handler.Close()
}

// message is one message and the descriptors that came with it. They are plain
// numbers: an os.File would set the monitor's side of them to blocking.
type message struct {
	header
	payload []byte
	fds     []int
	buf     [headerSize + maxPayload]byte
}

func (m *message) read(conn *net.UnixConn) error {
	m.fds = nil
	if err := m.fill(conn, m.buf[:headerSize]); err != nil {
		closeFDs(m.fds)
		return err
	}
	var err error
	if m.header, err = parseHeader(m.buf[:]); err != nil {
		closeFDs(m.fds)
		return err
	}
	m.payload = m.buf[headerSize : headerSize+m.size]
	if err := m.fill(conn, m.payload); err != nil {
		closeFDs(m.fds)
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// fill reads len(b) bytes and keeps the descriptors that come along.
func (m *message) fill(conn *net.UnixConn, b []byte) error {
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	for done := 0; done < len(b); {
		n, oobn, flags, _, err := conn.ReadMsgUnix(b[done:], oob)
		if oobn > 0 {
			if err := m.takeFDs(oob[:oobn]); err != nil {
				return err
			}
		}
		switch {
		case err != nil:
			return err
		case flags&unix.MSG_CTRUNC != 0:
			return errors.New("a vhost-user message has too many descriptors")
		case n == 0 && done == 0:
			return io.EOF
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		done += n
	}
	return nil
}

func (m *message) takeFDs(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("failed to parse a control message: %w", err)
	}
	for _, cm := range msgs {
		fds, err := unix.ParseUnixRights(&cm)
		if err != nil {
			continue
		}
		m.fds = append(m.fds, fds...)
	}
	if len(m.fds) > maxFDs {
		return errors.New("a vhost-user message has too many descriptors")
	}
	return nil
}

func (f *frontend) hasFeature(bit uint64) bool { return f.features&bit != 0 }

func (f *frontend) memory() *memory { return f.mem }

// setMemory makes m the guest's memory, and the queues that run use it.
func (f *frontend) setMemory(m *memory) {
	old := f.mem
	f.mem = m
	if old == nil {
		return
	}
	f.former = append(slices.DeleteFunc(f.former, (*memory).gone), old)
	old.release()
}

// revokeMemory takes the guest's memory away from all requests in flight.
func (f *frontend) revokeMemory() {
	tables := f.former
	if f.mem != nil {
		tables = append(slices.Clone(tables), f.mem)
	}
	for _, m := range tables {
		if err := m.revoke(); err != nil {
			f.log.Error("requests that are stuck may still write to guest memory", "error", err)
		}
	}
}

// abandon gives up on the requests in flight: they lose the guest's memory, so
// that none can write to it after the guest was told that the queue stopped.
// Since requests of all queues share the mapping, all of them are given up.
func (f *frontend) abandon(r *run) {
	f.log.Warn("requests are stuck on the host; the guest will see I/O errors", "queue", r.q.index)
	fresh, err := f.mem.remap()
	if err != nil {
		f.log.Error("failed to map guest memory again; the queues are stopped", "error", err)
	}
	for _, q := range f.queues {
		if fresh == nil {
			q.halt()
		} else if err := q.moveTo(fresh, true); err != nil {
			f.log.Warn("queue is lost", "error", err)
		}
	}
	f.revokeMemory()
	f.setMemory(fresh)
}

// addWorker and workerDone count the workers; they are safe for concurrent use.
func (f *frontend) addWorker() bool {
	if f.workerCount.Add(1) > maxFrontendWorkers {
		f.workerCount.Add(-1)
		return false
	}
	f.workers.Add(1)
	return true
}

func (f *frontend) workerDone() {
	f.workerCount.Add(-1)
	f.workers.Done()
}
