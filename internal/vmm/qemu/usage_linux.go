package qemu

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"time"

	"sbx/internal/vmm"
)

// clockTick is the unit of times in /proc/PID/stat (proc(5)); user space sees
// 100 a second on every Linux architecture that Go supports.
const clockTick = time.Second / 100

func (p *process) usage() (vmm.Usage, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return vmm.Usage{}, vmm.ErrDead
	}
	return parseStat(stat, int64(os.Getpagesize()))
}

// parseStat reads utime, stime and rss: fields 14, 15 and 24, where the second
// is the command's name in parentheses and may itself contain anything.
func parseStat(stat []byte, pageSize int64) (vmm.Usage, error) {
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return vmm.Usage{}, fmt.Errorf("unexpected format of /proc/PID/stat")
	}
	var v [3]int64
	for i, n := range []int{11, 12, 21} { // field 3 is fields[0]
		var err error
		if v[i], err = strconv.ParseInt(string(fields[n]), 10, 64); err != nil {
			return vmm.Usage{}, fmt.Errorf("read /proc/PID/stat: %w", err)
		}
	}
	return vmm.Usage{CPU: time.Duration(v[0]+v[1]) * clockTick, Resident: v[2] * pageSize}, nil
}
