package control

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a guest may say of itself: generous for a real one, harmless
// for whoever shows, adds up or stores them.
const (
	maxText      = 128
	maxBytes     = 1 << 53 // exact in JSON readers that use floating point
	maxUptime    = 100 * 365 * 24 * time.Hour
	maxCPUs      = 4096
	maxProcesses = 1 << 22 // Linux's largest PID
	maxSessions  = 256
	maxAttached  = 4096
)

// latest is a time that time.Time, JSON and people can deal with.
var latest = time.Date(2262, 1, 1, 0, 0, 0, 0, time.UTC)

func (c Clock) validate() error {
	if c.Time < 0 || c.Time > latest.UnixNano() {
		return fmt.Errorf("the sandbox says that its clock shows %d", c.Time)
	}
	return nil
}

func (s Stats) validate() error {
	if err := checkText("kernel", s.Kernel); err != nil {
		return err
	}
	numbers := []struct {
		name       string
		value, max int64
	}{
		{"uptime", int64(s.Uptime), int64(maxUptime)},
		{"cpus", int64(s.CPUs), maxCPUs},
		{"cpu_busy", int64(s.CPUBusy), 1<<63 - 1},
		{"memory_total", s.MemoryTotal, maxBytes},
		{"memory_used", s.MemoryUsed, s.MemoryTotal},
		{"disk_total", s.DiskTotal, maxBytes},
		{"disk_used", s.DiskUsed, s.DiskTotal},
		{"processes", int64(s.Processes), maxProcesses},
		{"sessions", int64(len(s.Sessions)), maxSessions},
	}
	for _, n := range numbers {
		if n.value < 0 || n.value > n.max {
			return fmt.Errorf("the sandbox reports %s = %d, out of range", n.name, n.value)
		}
	}
	for _, session := range s.Sessions {
		if err := session.validate(); err != nil {
			return err
		}
	}
	return nil
}

func (s Session) validate() error {
	if err := checkText("session name", s.Name); err != nil {
		return err
	}
	switch {
	case s.PID < 0 || s.PID > maxProcesses:
		return fmt.Errorf("the sandbox reports PID %d, out of range", s.PID)
	case s.Attached < 0 || s.Attached > maxAttached:
		return fmt.Errorf("the sandbox reports %d attached terminals, out of range", s.Attached)
	case s.LastOutput.After(latest) || s.LastOutput.Year() < 0:
		return fmt.Errorf("the sandbox reports last output in year %d", s.LastOutput.Year())
	}
	return nil
}

func checkText(what, s string) error {
	if len(s) > maxText || !utf8.ValidString(s) {
		return fmt.Errorf("the sandbox reports a %s that is too long or not UTF-8", what)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("the sandbox reports a %s with unprintable characters", what)
		}
	}
	return nil
}
