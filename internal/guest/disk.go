//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"

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
