package ext4

import (
	"context"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlResize is EXT4_IOC_RESIZE_FS, _IOW('f', 16, __u64).
const ioctlResize = 0x40086610

// Grow enlarges the ext4 file system that is mounted writable at dir to the
// size of its device. It needs CAP_SYS_RESOURCE, is safe to repeat, and does
// nothing when there is nothing to gain. It can't be interrupted; ctx is
// looked at before it starts.
func Grow(ctx context.Context, dir, device string) error {
	if err := grow(ctx, dir, device); err != nil {
		return fmt.Errorf("cannot grow the file system of %s at %s: %w", device, dir, err)
	}
	return nil
}

func grow(ctx context.Context, dir, device string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dev, err := os.Open(device)
	if err != nil {
		return err
	}
	defer dev.Close()
	size, err := dev.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	now, then, err := growTo(dev, size)
	if err != nil || then == now {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, d.Fd(), ioctlResize, uintptr(unsafe.Pointer(&then)))
	if errno != 0 {
		return fmt.Errorf("from %d to %d blocks: %w", now, then, errno)
	}
	return nil
}
