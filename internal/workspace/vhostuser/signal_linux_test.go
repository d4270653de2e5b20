package vhostuser

import (
	"encoding/binary"
	"math"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fill makes an eventfd full and blocking: the next write to it waits.
func fill(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	var b [8]byte
	_, _ = unix.Read(fd, b[:])
	binary.NativeEndian.PutUint64(b[:], math.MaxUint64-1)
	if _, err := unix.Write(fd, b[:]); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}

func newEventfd(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// A front end that hands over eventfds nobody can write to, and makes them
// blocking again after they were accepted, doesn't hold up the server's end.
func TestFullEventfds(t *testing.T) {
	srv, socket := newServer(t, StopTimeout, one(newEcho()))
	m := boot(t, socket)
	d := newDriver(m, 1, 64)
	call, errs := newEventfd(t), newEventfd(t)
	fill(t, call)
	fill(t, errs)
	m.must(reqSetVringCall, appendU64(nil, 1), call) // interrupts at once
	m.must(reqSetVringErr, appendU64(nil, 1), errs)
	fill(t, call)
	fill(t, errs)
	d.submit(<-d.free, []byte("blocks"), 16)
	for load32(d.use)>>16 != 1 { // answered; the interrupt comes next
		time.Sleep(time.Millisecond)
	}
	m.write(encode(reqGetVringBase, 0, d.state(0)))
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyEventfdsAreTaken(t *testing.T) {
	_, socket := newServer(t, StopTimeout, one(newEcho()))
	m := boot(t, socket)
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	for _, r := range []request{reqSetVringCall, reqSetVringErr, reqSetVringKick} {
		for _, fd := range []int{pipe[0], pipe[1], m.fd, dirFD(t)} {
			m.refused(r, appendU64(nil, 1), fd)
		}
	}
}

// Descriptors that come with a message which has no use for them are closed.
func TestUnwantedDescriptorsAreClosed(t *testing.T) {
	_, socket := newServer(t, StopTimeout, one(newEcho()))
	m := boot(t, socket)
	fd := newEventfd(t)
	before := openFDs(t)
	for range 10 {
		m.must(reqSetVringCall, appendU64(nil, 1|vringNoFD), fd, fd)
		m.must(reqSetVringErr, appendU64(nil, 1|vringNoFD), fd)
		m.refused(reqSetVringKick, appendU64(nil, 1|vringNoFD), fd)
	}
	if after := openFDs(t); after != before {
		t.Errorf("%s descriptors before, %s after", before, after)
	}
}
