package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// hostInfo is what a reader must know to judge figures.
type hostInfo struct {
	cpu, kernel, qemu, accel string
	cores                    int
	date                     time.Time
}

func describeHost(qemu, accel string) hostInfo {
	h := hostInfo{cpu: runtime.GOARCH, cores: runtime.NumCPU(), qemu: qemu, accel: accel, date: time.Now()}
	if data, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(data)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				h.cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	if out, err := exec.Command("uname", "-sr").Output(); err == nil {
		h.kernel = strings.TrimSpace(string(out))
	}
	return h
}

// describe is the line below a table. The load says how busy the machine was
// with other things, measurements included.
func (h hostInfo) describe() string {
	load := "unknown"
	if data, err := os.ReadFile("/proc/loadavg"); err == nil {
		load, _, _ = strings.Cut(string(data), " ")
	}
	return fmt.Sprintf("*%s, %d cores, %s, QEMU %s with %s, load %s, %s.*",
		h.cpu, h.cores, h.kernel, h.qemu, strings.ToUpper(h.accel), load, h.date.Format("2 January 2006"))
}
