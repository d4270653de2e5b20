//go:build linux

package guest

import (
	"bufio"
	"context"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
)

const (
	defaultGrace = 5 * time.Second
	maxGrace     = time.Hour
	// killWait is for what SIGKILL does not end at once, a program in a disk
	// operation; and storageWait for a file system that does not answer.
	killWait    = 10 * time.Second
	storageWait = 30 * time.Second
)

func (i *initd) orderShutdown(payload []byte) (after func(), err error) {
	var s control.Shutdown
	if err := control.Decode(payload, &s); err != nil {
		return nil, err
	}
	grace := min(max(s.Grace, 0), maxGrace)
	return func() { i.shutdown(grace) }, nil
}

// shutdown ends all programs and then the machine. It does not return.
func (i *initd) shutdown(grace time.Duration) {
	i.stopping.Do(func() {
		i.endPrograms(grace)
		i.powerOff()
	})
	select {}
}

func (i *initd) endPrograms(grace time.Duration) {
	unix.Kill(-1, unix.SIGTERM)
	hangupStubborn("/proc")
	if i.waitEmpty(grace) {
		return
	}
	unix.Kill(-1, unix.SIGKILL)
	if !i.waitEmpty(killWait) {
		i.log.Warn("some programs could not be ended")
	}
}

func (i *initd) waitEmpty(d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return i.reaper.WaitEmpty(ctx) == nil
}

// hangupStubborn sends SIGHUP to the programs that ignore SIGTERM. Interactive
// shells do, and would use up the whole grace period.
func hangupStubborn(proc string) {
	entries, _ := os.ReadDir(proc)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid <= 1 {
			continue
		}
		status, err := os.ReadFile(proc + "/" + e.Name() + "/status")
		if err == nil && ignores(status, unix.SIGTERM) {
			unix.Kill(pid, unix.SIGHUP)
		}
	}
}

// ignores reads the SigIgn mask of /proc/PID/status. A kernel thread, which
// ignores everything, has no VmSize.
func ignores(status []byte, s syscall.Signal) bool {
	var mask uint64
	user := false
	for line := range strings.Lines(string(status)) {
		switch name, v, _ := strings.Cut(line, ":"); name {
		case "SigIgn":
			mask, _ = strconv.ParseUint(strings.TrimSpace(v), 16, 64)
		case "VmSize":
			user = true
		}
	}
	return user && mask&(1<<(s-1)) != 0
}

// powerOff leaves the disks consistent and switches the machine off.
func (i *initd) powerOff() {
	if i.rootDisk.Load() {
		// First and by itself: the disk must be safe even when another file
		// system's server is gone.
		if root, err := os.Open("/"); err == nil {
			unix.Syncfs(int(root.Fd()))
			root.Close()
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			unmountAll()
		}()
		select {
		case <-done:
		case <-time.After(storageWait):
			i.console.print("some file systems do not answer")
		}
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the reboot failed: the host will pull the plug
}

// unmountAll unmounts in reverse order of mounting and makes the root
// read-only.
func unmountAll() {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return
	}
	var targets []string
	s := bufio.NewScanner(f)
	for s.Scan() {
		if fields := strings.Fields(s.Text()); len(fields) > 4 {
			targets = append(targets, unescapeMount(fields[4]))
		}
	}
	f.Close()
	unix.Sync()
	for n := len(targets) - 1; n >= 0; n-- {
		switch t := targets[n]; t {
		case "/", "/proc", "/dev", "/sys":
		default:
			if unix.Unmount(t, unix.UMOUNT_NOFOLLOW) != nil {
				unix.Unmount(t, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
			}
		}
	}
	unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
	unix.Sync()
}

// unescapeMount undoes the octal escapes of mountinfo (proc_pid_mountinfo(5)).
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if v, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(v))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
