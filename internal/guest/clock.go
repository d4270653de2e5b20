//go:build linux

package guest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
)

// Requests of random(4).
const (
	rndAddEntropy = 0x40085203
	rndReseedCRNG = 0x5207
)

// addEntropy mixes the host's random bytes in, credited, and has the kernel's
// generator use them from the next byte on. Without it, guests resumed from
// one snapshot would draw the same numbers.
func addEntropy(entropy []byte) error {
	f, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info := make([]byte, 8, 8+len(entropy)) // struct rand_pool_info
	binary.NativeEndian.PutUint32(info[0:], uint32(8*len(entropy)))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(entropy)))
	info = append(info, entropy...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndAddEntropy, uintptr(unsafe.Pointer(&info[0]))); errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), rndReseedCRNG, 0); errno != 0 {
		return fmt.Errorf("reseed the random number generator: %w", errno)
	}
	return nil
}

func setClock(ns int64) error {
	ts := unix.NsecToTimespec(ns)
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("set the clock: %w", err)
	}
	return nil
}

// stepAbove is the error from which on the clock is set; below, it is slewed,
// which programs don't notice.
const stepAbove = 100 * time.Millisecond

// orderClock corrects the clock and answers what it was.
func orderClock(payload []byte) (was control.Clock, err error) {
	var c control.Clock
	if err := control.Decode(payload, &c); err != nil {
		return was, err
	}
	if c.Time <= 0 {
		return was, errors.New("no time given")
	}
	before := time.Now()
	off := time.Unix(0, c.Time).Sub(before)
	if off.Abs() > stepAbove {
		err = setClock(c.Time)
	} else {
		err = slewClock(off)
	}
	return control.Clock{Time: before.UnixNano()}, err
}

// slewClock lets the clock run a little faster or slower until off is made up.
func slewClock(off time.Duration) error {
	const adjOffsetSingleshot = 0x8001 // adjtimex(2)
	_, err := unix.Adjtimex(&unix.Timex{Modes: adjOffsetSingleshot, Offset: off.Microseconds()})
	if err != nil {
		return fmt.Errorf("slew the clock: %w", err)
	}
	return nil
}
