//go:build linux

package guest

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waitDevice waits for a device node. It may be hot-plugged, so only the end
// of the order's connection ends the wait.
func waitDevice(ctx context.Context, path string) error {
	if err := poll(ctx, func() bool { return exists(path) }); err != nil {
		return fmt.Errorf("the disk %s did not appear: %w", path, err)
	}
	return nil
}

// mountDisk mounts an ext4 disk; the kernel replays its journal.
func mountDisk(ctx context.Context, device, target string, flags uintptr, data string) error {
	if err := waitDevice(ctx, device); err != nil {
		return err
	}
	err := unix.Mount(device, target, "ext4", flags, data)
	switch {
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("mount the disk %s: it holds no ext4 file system", device)
	case err != nil:
		return fmt.Errorf("mount the disk %s: %w", device, err)
	}
	return nil
}

// growDisk grows the mounted ext4 file system to its device's size. It works
// while the file system is in use.
func growDisk(device, mounted string) error {
	size, err := deviceSize(device)
	if err != nil {
		return fmt.Errorf("grow the file system: size of %s: %w", device, err)
	}
	blocks, blockSize, err := ext4Size(device)
	if err != nil {
		return fmt.Errorf("grow the file system: %w", err)
	}
	want := size / blockSize
	if want <= blocks {
		return nil
	}
	dir, err := os.Open(mounted)
	if err != nil {
		return err
	}
	defer dir.Close()
	const ext4IOCResizeFS = 0x40086610 // _IOW('f', 16, __u64), fs/ext4/ext4.h
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), ext4IOCResizeFS, uintptr(unsafe.Pointer(&want)))
	if errno != 0 {
		return fmt.Errorf("grow the file system on %s from %d to %d blocks: %w", device, blocks, want, errno)
	}
	return nil
}

func deviceSize(device string) (uint64, error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var size uint64
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, errno
	}
	return size, nil
}

// ext4Size reads a file system's number of blocks and their size.
func ext4Size(device string) (blocks, blockSize uint64, err error) {
	f, err := os.Open(device)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	var sb [1024]byte
	if _, err := f.ReadAt(sb[:], 1024); err != nil {
		return 0, 0, err
	}
	return parseSuperblock(sb[:])
}

// parseSuperblock takes the size out of an ext4 superblock
// (Documentation/filesystems/ext4/super.rst).
func parseSuperblock(sb []byte) (blocks, blockSize uint64, err error) {
	le := binary.LittleEndian
	logSize := le.Uint32(sb[0x18:])
	if le.Uint16(sb[0x38:]) != 0xef53 || logSize > 6 {
		return 0, 0, errors.New("no ext4 superblock")
	}
	blocks = uint64(le.Uint32(sb[0x4:]))
	const incompat64Bit = 0x80
	if le.Uint32(sb[0x60:])&incompat64Bit != 0 {
		blocks |= uint64(le.Uint32(sb[0x150:])) << 32
	}
	return blocks, 1024 << logSize, nil
}
