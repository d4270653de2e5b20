package host

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Memory is how much memory the computer has, in bytes.
func Memory() (int64, error) {
	n, err := unix.SysctlUint64("hw.memsize")
	if err != nil {
		return 0, fmt.Errorf("cannot tell the host's memory: %w", err)
	}
	return int64(n), nil
}
