//go:build linux

package guest

import (
	"bufio"
	"bytes"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sbx/internal/control"
)

func (i *initd) orderStats() (s control.Stats, err error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return s, err
	}
	s.Kernel = unix.ByteSliceToString(u.Release[:])
	s.CPUs = runtime.NumCPU()
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return s, err
	}
	s.Uptime = time.Duration(up.Nano())
	if stat, err := os.ReadFile("/proc/stat"); err == nil {
		s.CPUBusy = cpuBusy(stat)
	}
	if info, err := os.ReadFile("/proc/meminfo"); err == nil {
		total, available := memory(info)
		s.MemoryTotal, s.MemoryUsed = total, total-available
	}
	s.Processes = processes("/proc")
	// Before that, / is the initramfs.
	if i.rootDisk.Load() {
		var fs unix.Statfs_t
		if err := unix.Statfs("/", &fs); err == nil {
			s.DiskTotal = int64(fs.Blocks) * fs.Bsize
			s.DiskUsed = int64(fs.Blocks-fs.Bfree) * fs.Bsize
		}
	}
	s.Sessions = i.sessions.Sessions()
	return s, nil
}

// cpuBusy sums the first line of /proc/stat but for idle and iowait. The unit
// is USER_HZ, which is 100 on every Linux.
func cpuBusy(stat []byte) time.Duration {
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	fields := strings.Fields(string(line))
	var ticks int64
	// user nice system idle iowait irq softirq steal; guest time, which
	// follows, is in user already.
	for n, f := range fields[min(1, len(fields)):min(9, len(fields))] {
		v, err := strconv.ParseInt(f, 10, 64)
		if err == nil && n != 3 && n != 4 {
			ticks += v
		}
	}
	return time.Duration(ticks) * (time.Second / 100)
}

// memory takes the totals out of /proc/meminfo, in bytes.
func memory(info []byte) (total, available int64) {
	s := bufio.NewScanner(bytes.NewReader(info))
	for s.Scan() {
		f := strings.Fields(s.Text())
		if len(f) < 2 {
			continue
		}
		kb, _ := strconv.ParseInt(f[1], 10, 64)
		switch f[0] {
		case "MemTotal:":
			total = kb << 10
		case "MemAvailable:":
			available = kb << 10
		}
	}
	return total, available
}

// processes counts the processes but for the kernel's own threads, which have
// no command line.
func processes(proc string) int {
	dir, err := os.Open(proc)
	if err != nil {
		return 0
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	count := 0
	for _, name := range names {
		if name[0] < '1' || name[0] > '9' {
			continue
		}
		if line, err := os.ReadFile(proc + "/" + name + "/cmdline"); err == nil && len(line) > 0 {
			count++
		}
	}
	return count
}

// supports reports whether the kernel knows a file system now, without having
// it look for a module.
func supports(fstype string) bool {
	text, _ := os.ReadFile("/proc/filesystems")
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 0 && f[len(f)-1] == fstype {
			return true
		}
	}
	return false
}
