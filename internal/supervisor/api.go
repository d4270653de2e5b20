package supervisor

import (
	"time"

	"sbx/internal/control"
	"sbx/internal/vmm"
)

// State is where a sandbox is in its life.
type State string

const (
	Starting State = "starting"
	Running  State = "running"
	Stopping State = "stopping"
	Stopped  State = "stopped"
	// DiskFull: halted because the host has no space for a write of the guest;
	// it goes on by itself when there is.
	DiskFull State = "disk-full"
)

// Status is a running sandbox's account of itself.
type Status struct {
	State      State     `json:"state"`
	PID        int       `json:"pid"`
	MonitorPID int       `json:"monitor_pid,omitempty"`
	Accel      vmm.Accel `json:"accel,omitempty"`
	Started    time.Time `json:"started"`
	// CPU is the processor use of the last seconds, 1 for one whole processor.
	CPU      float64 `json:"cpu"`
	Resident int64   `json:"resident"` // host memory in use, bytes
	Clients  int     `json:"clients"`  // connections to the guest
	// Guest is the guest's own word; nil when it did not answer.
	Guest *control.Stats `json:"guest,omitempty"`
}

// stopRequest is the body of POST /v1/stop.
type stopRequest struct {
	// Force pulls the plug instead of asking the guest.
	Force bool `json:"force"`
}

// Event is what a starting supervisor tells the command that spawned it, one
// JSON object a line on an inherited descriptor.
type Event struct {
	Warn   string `json:"warn,omitempty"`
	Error  string `json:"error,omitempty"`
	Locked bool   `json:"locked,omitempty"` // another supervisor has the sandbox
	Ready  bool   `json:"ready,omitempty"`
}

const (
	apiSocket = "api.sock"
	sshSocket = "ssh.sock"
	fsSocket  = "fs.sock"
)

// maxSocketPath is the longest path of a unix socket (unix(7), sun_path).
const maxSocketPath = 107

// longestSocket is the longest file name in a runtime directory.
const longestSocket = "control.sock"
