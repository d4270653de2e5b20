package lifecycle

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// leastSpace is what a new sandbox needs to come up and to be of any use.
const leastSpace = 256 << 20

// checkSpace refuses to create a sandbox on a host disk that is full: it would
// be halted by its first writes.
func checkSpace(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	free := int64(st.Bavail) * st.Bsize
	if free < leastSpace {
		return fmt.Errorf("no disk space: %d MiB are free in %s, a sandbox needs %d MiB to start with; free some, remove sandboxes with sbx rm, or set XDG_STATE_HOME to a larger disk", free>>20, dir, int64(leastSpace)>>20)
	}
	return nil
}
