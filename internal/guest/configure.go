//go:build linux

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
	"sbx/internal/guest/account"
	"sbx/internal/guest/session"
)

// sessionsCgroup is where all sessions' programs live, apart from PID 1.
const sessionsCgroup = "/sys/fs/cgroup/sessions"

// configure makes the machine one sandbox. Its steps depend on each other, so
// the first error ends it, and the machine is then of no use.
func (i *initd) configure(ctx context.Context, payload []byte) error {
	var c control.Configure
	if err := control.Decode(payload, &c); err != nil {
		return err
	}
	if err := validate(c); err != nil {
		return err
	}
	if !i.configured.CompareAndSwap(false, true) {
		return errConfigured
	}
	// Nothing may draw a random number before this.
	if err := addEntropy(c.Entropy); err != nil {
		return err
	}
	if err := i.newHostKey(); err != nil {
		return err
	}
	if err := setClock(c.Time); err != nil {
		return err
	}
	if err := i.enterRoot(ctx, c); err != nil {
		return err
	}
	user, err := account.Lookup("/", c.User)
	if err != nil {
		return err
	}
	if err := i.furnish(c, user); err != nil {
		return err
	}
	if err := mountShares(ctx, c); err != nil {
		return err
	}
	workdir, err := makeWorkdir(c.Workdir, user)
	if err != nil {
		return err
	}
	i.sessions.Configure(session.Settings{User: c.User, Workdir: workdir, Env: c.Env, Cgroup: sessionsCgroup})
	i.log.Info("configured", "sandbox", c.Hostname)
	return nil
}

// validate checks what later steps could only report in riddles.
func validate(c control.Configure) error {
	switch {
	case c.Hostname == "" || len(c.Hostname) > 64 || strings.ContainsAny(c.Hostname, " \t\n/\x00"):
		return fmt.Errorf("host name %q is not usable", c.Hostname)
	case len(c.MachineID) != 32 || strings.Trim(c.MachineID, "0123456789abcdef") != "":
		return errors.New("machine id is not 32 hex digits")
	case len(c.Entropy) < 32:
		return fmt.Errorf("%d bytes of entropy are too few", len(c.Entropy))
	case c.Time <= 0:
		return errors.New("no time given")
	case !strings.HasPrefix(c.RootDevice, "/dev/"):
		return fmt.Errorf("root device %q is not below /dev", c.RootDevice)
	case c.User == "":
		return errors.New("no user given")
	case len(c.Mounts) > 0 && c.ShareTag == "":
		return errors.New("mounts without a share to mount from")
	case c.Workdir != "" && !cleanAbs(c.Workdir):
		return fmt.Errorf("working directory %q is not a clean absolute path", c.Workdir)
	}
	for _, kv := range c.Env {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" || strings.Contains(kv, "\x00") {
			return errors.New("an environment variable is not of the form K=V")
		}
	}
	for _, m := range c.Mounts {
		if !filepath.IsLocal(m.Source) || strings.Contains(m.Source, "/") {
			return fmt.Errorf("mount source %q is not the name of a share's child", m.Source)
		}
		if !cleanAbs(m.Target) || m.Target == "/" {
			return fmt.Errorf("mount target %q is not a clean absolute path", m.Target)
		}
	}
	return nil
}

func cleanAbs(p string) bool {
	return filepath.IsAbs(p) && filepath.Clean(p) == p && !strings.Contains(p, "\x00")
}

// furnish makes a bare root file system a running system.
func (i *initd) furnish(c control.Configure, user account.User) error {
	if err := mountSystem(user); err != nil {
		return err
	}
	if err := setupCgroups(c.PidsMax); err != nil {
		return err
	}
	if err := setIdentity(c); err != nil {
		return err
	}
	if err := persistentEnv("/", user); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return err
	}
	i.applySysctls()
	return setLimits()
}

// setupCgroups makes the group of the sessions and hands all controllers down,
// for it and for nested containers.
func setupCgroups(pidsMax int64) error {
	const root = "/sys/fs/cgroup"
	controllers, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(controllers)) {
		// One at a time: one that is refused must not take the rest along.
		os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+name), 0o644)
	}
	if err := os.Mkdir(sessionsCgroup, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if err := limitMemory(); err != nil {
		return err
	}
	if pidsMax <= 0 {
		return nil
	}
	err = os.WriteFile(sessionsCgroup+"/pids.max", []byte(strconv.FormatInt(pidsMax, 10)), 0o644)
	if err != nil {
		return fmt.Errorf("limit the number of processes: %w", err)
	}
	return nil
}

// limitMemory keeps a little of the machine's memory from the sessions, what they
// fill temporary file systems with included: else they could leave the kernel
// nothing, and nothing to kill for it either, and it would panic.
func limitMemory() error {
	info, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	total, _ := memory(info)
	limit := total - min(max(total/16, 32<<20), 256<<20)
	err = os.WriteFile(sessionsCgroup+"/memory.max", []byte(strconv.FormatInt(limit, 10)), 0o644)
	if err != nil {
		return fmt.Errorf("limit the memory of sessions: %w", err)
	}
	return nil
}

// sysctls suit a developer's machine: file watchers, debuggers, databases,
// rootless containers. The links' protection is systemd's default.
var sysctls = map[string]string{
	"fs/inotify/max_user_watches":      "1048576",
	"fs/inotify/max_user_instances":    "8192",
	"fs/protected_hardlinks":           "1",
	"fs/protected_symlinks":            "1",
	"kernel/pid_max":                   "4194304",
	"kernel/unprivileged_userns_clone": "1", // Debian's own
	"net/ipv4/ping_group_range":        "0 2147483647",
	"vm/max_map_count":                 "1048576",
	"user/max_user_namespaces":         "65536",
	"net/ipv6/conf/lo/disable_ipv6":    "0",
}

func (i *initd) applySysctls() {
	for name, value := range sysctls {
		err := os.WriteFile("/proc/sys/"+name, []byte(value), 0o644)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // not in this kernel
			i.log.Info("sysctl refused", "name", name, "error", err)
		}
	}
}

// setLimits sets what every program inherits.
func setLimits() error {
	const files = 1 << 20
	limit := syscall.Rlimit{Cur: files, Max: files}
	// syscall, not unix: children would get the limits of before otherwise.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("set the limit of open files: %w", err)
	}
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	return unix.Setrlimit(unix.RLIMIT_NPROC, &unlimited)
}

// makeWorkdir makes the default directory of sessions if it is missing.
func makeWorkdir(dir string, user account.User) (string, error) {
	if dir == "" || exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the working directory: %w", err)
	}
	return dir, os.Chown(dir, int(user.UID), int(user.GID))
}
