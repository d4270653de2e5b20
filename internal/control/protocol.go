// Package control is the channel between the supervisor on the host and
// sbx-init, PID 1 in the guest.
//
// Its layers, from the wire up: a virtio-serial port, a byte stream that both
// ends may lose and join again; frames that make a session of it (see
// [NewHostPort] and [NewGuestPort]); yamux, which makes many streams of one
// session; and SSH (RFC 4251 to 4254) on every stream. The CLI speaks SSH end
// to end, the supervisor relays bytes.
//
// On the host, start with [DialMux] and, on one of its streams, [NewClient]; in
// the guest with [Listen] and, on what it accepts, [NewServerConn].
//
// What SSH does not define travels as SSH extensions in its own name space
// ("@sbx", RFC 4250 section 4.6.1), with JSON payloads: the orders below are
// global requests, [Spawn] and [Attach] are requests on a session channel.
//
// The guest is hostile: the host side bounds and validates all that it reads.
package control

import "time"

// Names of the SSH global requests by which the host gives orders. Each wants
// a reply; a refused one carries the reason as its payload.
const (
	// RequestConfigure makes a booted, empty machine one sandbox: Configure.
	// It is accepted once.
	RequestConfigure = "configure@sbx"
	// RequestClock sets the guest's clock: Clock, answered by Clock.
	RequestClock = "clock@sbx"
	// RequestStats asks for Stats.
	RequestStats = "stats@sbx"
	// RequestShutdown ends all processes, syncs and powers off: Shutdown. The
	// reply comes first, the machine's end is the completion.
	RequestShutdown = "shutdown@sbx"
)

// Names of the requests on an SSH session channel. A pty-req before them asks
// for no reply: a guest that can't give the terminal refuses the program. The
// reason of a refusal goes before it on the channel's standard error: [Refuse].
const (
	// RequestSpawn starts a program by its argument vector: Spawn.
	RequestSpawn = "spawn@sbx"
	// RequestAttach joins, or first starts, a persistent terminal session:
	// Attach. A pty-req precedes it.
	RequestAttach = "attach@sbx"
)

// MaxMessage bounds the JSON payload of any message here, in bytes: a message
// is one SSH packet, and those end at 256 KiB in OpenSSH and x/crypto.
const MaxMessage = 248 << 10

// Configure is everything that is particular to one sandbox.
type Configure struct {
	Hostname  string `json:"hostname"`
	MachineID string `json:"machine_id"` // 32 hex digits, machine-id(5)
	Time      int64  `json:"time"`       // host's clock, nanoseconds since 1970
	Entropy   []byte `json:"entropy"`    // 64 bytes from the host's getrandom

	// RootDevice is the disk (ext4) that becomes /; it is grown to the
	// device's size. ModulesDevice, if not empty, is mounted read-only at
	// /usr/lib/modules/RELEASE (the running kernel's release).
	RootDevice    string `json:"root_device"`
	ModulesDevice string `json:"modules_device,omitempty"`

	// ShareTag is the virtiofs file system whose children are the workspaces.
	ShareTag string  `json:"share_tag,omitempty"`
	Mounts   []Mount `json:"mounts,omitempty"`

	// Env ("K=V") is given to every session, after the guest's defaults.
	Env []string `json:"env,omitempty"`
	// User is who sessions run as unless they say otherwise.
	User string `json:"user"`
	// Workdir is where sessions start unless they say otherwise.
	Workdir string `json:"workdir"`
	// PidsMax limits the number of processes of all sessions together; 0: none.
	PidsMax int64 `json:"pids_max,omitempty"`
}

// Mount bind-mounts child Source of the share at Target (created if missing).
// A read-only workspace is enforced on the host; ReadOnly only makes the
// guest's mount table tell the truth.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// Clock carries a wall-clock time, in nanoseconds since 1970.
type Clock struct {
	Time int64 `json:"time"`
}

// Stats is what the guest says of itself. All of it is the guest's word.
type Stats struct {
	Kernel      string        `json:"kernel"` // uname -r
	Uptime      time.Duration `json:"uptime"`
	CPUs        int           `json:"cpus"`
	CPUBusy     time.Duration `json:"cpu_busy"` // processor time not idle, all CPUs, since boot
	MemoryTotal int64         `json:"memory_total"`
	MemoryUsed  int64         `json:"memory_used"` // total minus available
	DiskTotal   int64         `json:"disk_total"`  // of the root file system
	DiskUsed    int64         `json:"disk_used"`
	Processes   int           `json:"processes"`
	Sessions    []Session     `json:"sessions,omitempty"` // persistent ones
}

// Session describes a persistent terminal session in the guest.
type Session struct {
	Name       string    `json:"name"`
	PID        int       `json:"pid"`
	Attached   int       `json:"attached"`    // terminals on it now
	LastOutput time.Time `json:"last_output"` // guest's clock
}

// Shutdown asks for an orderly end within Grace: SIGTERM to every process,
// SIGKILL after Grace to what is left, sync, unmount, power off.
type Shutdown struct {
	Grace time.Duration `json:"grace"`
}

// Spawn starts Argv directly, without a shell. An empty Dir, and Env for what
// it does not name, mean the sandbox's defaults. The SSH user name is who it
// runs as; empty means the sandbox's user.
type Spawn struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
}

// Attach joins the persistent session Name. Where there is none, Spawn starts
// it; with Spawn nil that is an error. The terminal is first repainted with
// the session's present screen and modes; then its output follows. Closing the
// channel detaches; exit-status is sent when the session's program ends.
type Attach struct {
	Name  string `json:"name"`
	Spawn *Spawn `json:"spawn,omitempty"`
}

// ExitNotFound and ExitNotExecutable are the exit codes of a Spawn whose
// program is missing or can't be executed, as in POSIX shells.
const (
	ExitNotExecutable = 126
	ExitNotFound      = 127
)
