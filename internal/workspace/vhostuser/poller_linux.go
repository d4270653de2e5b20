package vhostuser

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// poller is what the workers of a queue sleep on. It is an epoll set of its
// own, because the kick descriptor is one file description with the monitor's:
// it can be made neither blocking nor, if it is blocking, non-blocking. Edge
// triggering needs no read of it: each write is an edge, and an edge that
// nobody waits for is kept.
type poller struct {
	epoll int
	wake  int // one waiter goes on
	stop  int // all waiters go on, for good
}

// newPoller watches kick, which stays the caller's.
func newPoller(kick int) (*poller, error) {
	p := &poller{epoll: -1, wake: -1, stop: -1}
	var err error
	if p.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("failed to make an epoll set: %w", err)
	}
	for _, fd := range []*int{&p.wake, &p.stop} {
		if *fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
			p.close()
			return nil, fmt.Errorf("failed to make an eventfd: %w", err)
		}
	}
	for _, w := range []struct {
		fd     int
		events uint32
	}{
		{kick, unix.EPOLLIN | unix.EPOLLET},
		{p.wake, unix.EPOLLIN | unix.EPOLLET},
		{p.stop, unix.EPOLLIN},
	} {
		ev := unix.EpollEvent{Events: w.events, Fd: int32(w.fd)}
		if err := unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, w.fd, &ev); err != nil {
			p.close()
			return nil, fmt.Errorf("failed to watch descriptor %d: %w", w.fd, err)
		}
	}
	return p, nil
}

// wait returns when there may be work, or false when it is time to stop.
func (p *poller) wait() bool {
	var events [1]unix.EpollEvent
	n := p.linger(&events[0])
	for n == 0 {
		var err error
		if n, err = unix.EpollWait(p.epoll, events[:], -1); err == unix.EINTR {
			n = 0
		} else if err != nil {
			return false
		}
	}
	return events[0].Fd != int32(p.stop)
}

var lingering atomic.Int64

// linger waits for a moment without telling the Go scheduler.
//
// The next request mostly follows at once. If this thread gave up its P for
// the time between, then each request would wake the runtime's monitor thread
// and have it look for work, which on a busy host costs more than the request.
// The price is that a P is idle, and that a garbage collection waits for at
// most a millisecond; so one thread may do it at a time, and only if there is
// another P.
func (p *poller) linger(event *unix.EpollEvent) int {
	if runtime.GOMAXPROCS(0) == 1 || !lingering.CompareAndSwap(0, 1) {
		return 0
	}
	defer lingering.Store(0)
	const lingerMilliseconds = 1
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.epoll), uintptr(unsafe.Pointer(event)), 1, lingerMilliseconds, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

func (p *poller) wakeOne() { signal(p.wake) }
func (p *poller) stopAll() { signal(p.stop) }

func (p *poller) close() {
	for _, fd := range []int{p.epoll, p.wake, p.stop} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// signal adds one to an eventfd.
func signal(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	// It is non-blocking (checkEventfd), and fails only if the counter is full, and then the reader is told anyway.
	_, _ = unix.Write(fd, one[:])
}

// checkEventfd makes sure that a descriptor of the front end's is an eventfd.
// One that is written to becomes non-blocking, which QEMU's are already: a
// write to a full one would wait, with the queue locked.
func checkEventfd(fd int, written bool) error {
	what, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return fmt.Errorf("failed to identify a descriptor: %w", err)
	}
	if what != "anon_inode:[eventfd]" {
		return fmt.Errorf("the descriptor is %q, not an eventfd", what)
	}
	if !written {
		return nil
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("failed to make an eventfd non-blocking: %w", err)
	}
	return nil
}

// makeRoom empties an eventfd if it is full, so that a write to it goes on. The
// front end shares the description: it may have made it blocking again.
func makeRoom(fd int) {
	if fd < 0 {
		return
	}
	set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	if n, err := unix.Poll(set, 0); n != 1 || err != nil || set[0].Revents&(unix.POLLIN|unix.POLLOUT) != unix.POLLIN {
		return
	}
	_ = unix.SetNonblock(fd, true)
	var count [8]byte
	_, _ = unix.Preadv2(fd, [][]byte{count[:]}, -1, unix.RWF_NOWAIT)
}
