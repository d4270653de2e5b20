package vhostuser

import (
	"encoding/binary"
	"fmt"

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
	for {
		n, err := unix.EpollWait(p.epoll, events[:], -1)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return false
		}
		return n == 1 && events[0].Fd != int32(p.stop)
	}
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
	// It fails only if the counter is full, and then the reader is told anyway.
	_, _ = unix.Write(fd, one[:])
}
