package ext4

import (
	"errors"
	"fmt"
	"io"
)

// ErrNotExt4 says that a device holds no ext4 file system.
var ErrNotExt4 = errors.New("not an ext4 file system")

// growTo computes to how many blocks a file system, given its superblock, can
// grow on a device of that size. It is the present number when that is enough.
//
// A last group too small to hold its own metadata can't be added, so up to
// minLastGroup blocks at a device's end stay unused.
func growTo(r io.ReaderAt, device int64) (now, then uint64, err error) {
	const minLastGroup = 2048
	var b [superblockSize]byte
	if _, err := r.ReadAt(b[:], superblockAt); err != nil {
		return 0, 0, fmt.Errorf("cannot read the superblock: %w", err)
	}
	logSize, perGroup := le.Uint32(b[0x18:]), uint64(le.Uint32(b[0x20:]))
	if le.Uint16(b[0x38:]) != 0xef53 || logSize > 6 || perGroup == 0 {
		return 0, 0, ErrNotExt4
	}
	now = uint64(le.Uint32(b[0x04:]))
	if le.Uint32(b[0x60:])&incompat64bit != 0 {
		now |= uint64(le.Uint32(b[0x150:])) << 32
	}
	then = uint64(device) / (1024 << logSize)
	if rest := then % perGroup; rest < minLastGroup {
		then -= rest
	}
	return now, max(now, then), nil
}
