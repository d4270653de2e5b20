package supervisor

import (
	"fmt"

	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// confine takes from this process, for good, all files that it does not need
// from now on: what the guest sends is parsed here, and a mistake in that must
// not open the user's home. It is called when QEMU runs, so nothing is executed
// any more. QEMU has rules of its own (vmm/qemu). Kernels without Landlock, or
// with an older one, give what they can.
func (s *supervisor) confine() error {
	rules := []landlock.Rule{
		landlock.RWDirs(s.cfg.Store.Dir(s.record.Name), s.runtime),
		// To remove the runtime directory at the end.
		landlock.PathAccess(llsys.AccessFSRemoveDir|llsys.AccessFSReadDir, s.cfg.Dirs.Runtime),
		// The workspace server goes through /proc/self/fd, the usage meter
		// reads QEMU's statistics. What is another process's own there (its
		// environment, its descriptors) Landlock denies.
		landlock.RODirs("/proc"),
	}
	for _, w := range s.record.Workspaces {
		if w.ReadOnly {
			rules = append(rules, landlock.RODirs(w.Path))
		} else {
			rules = append(rules, landlock.RWDirs(w.Path).WithRefer())
		}
	}
	if err := landlock.V6.BestEffort().RestrictPaths(rules...); err != nil {
		return fmt.Errorf("cannot confine the supervisor: %w", err)
	}
	return nil
}
