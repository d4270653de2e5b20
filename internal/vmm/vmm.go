// Package vmm is the boundary between sbx and a virtual machine monitor.
//
// A [Driver] starts machines; a [Machine] is one running virtual machine. The
// order is strict: Start boots the guest and returns once the monitor answers;
// every other method may be called from then on, from any goroutine, until the
// machine is dead, after which they return [ErrDead]. What is particular to one
// sandbox never passes through here, except for its devices: the guest learns
// its name, mounts and settings over the control stream after it has booted.
//
// Package vmm/qemu is the driver in use; package vmm/vmmtest is the
// conformance suite that every driver passes.
package vmm

import (
	"context"
	"errors"
	"io"
	"net"
	"time"
)

// ErrDead is returned by the methods of a Machine whose monitor has exited.
var ErrDead = errors.New("virtual machine is not running")

// ErrReset is what Machine.Err returns when the guest reset itself, which it
// does to reboot and after a kernel panic.
var ErrReset = errors.New("guest restarted or its kernel panicked")

// Accel is how guest instructions are executed.
type Accel string

const (
	KVM Accel = "kvm" // hardware virtualization
	TCG Accel = "tcg" // software emulation
)

// Config describes a machine to start. All paths are absolute.
type Config struct {
	// Name appears in the host's process list.
	Name string
	// Dir is a directory (mode 0700) that exists, is private to this machine
	// and is short enough for unix sockets in it. The driver creates its
	// sockets there and removes them when the machine is dead.
	Dir string
	// Kernel is an uncompressed ELF vmlinux (arm64: an Image); Initrd an
	// initramfs image.
	Kernel, Initrd string
	// Cmdline is appended to the parameters that the driver itself needs.
	Cmdline string
	// CPUs is the number of virtual processors, at least 1.
	CPUs int
	// Memory is the guest's memory in bytes. It is shared (mappable by
	// vhost-user back ends) and given back to the host as the guest frees it.
	Memory int64
	// Disks become /dev/vda, /dev/vdb, ... in this order.
	Disks []Disk
	// Shares are the vhost-user-fs devices that are present at boot.
	Shares []Share
	// Console receives what the guest writes to its console. Writes happen on
	// one goroutine; an error from it is ignored. While a write is slow, output
	// beyond a bounded buffer is dropped; one that never returns keeps Done
	// open. Nil discards.
	Console io.Writer
	// Log receives what the monitor itself prints. Nil discards.
	Log io.Writer
	// Accel is required: drivers never choose.
	Accel Accel
}

// Disk is a block device.
type Disk struct {
	Path   string
	Format string // "raw" or "qcow2"
	// Backing is the raw image below a qcow2 disk, which is only read. What
	// the disk's own header says of one does not count: a monitor that a guest
	// took over could have written any file's name there.
	Backing  string
	ReadOnly bool
}

// Share is a virtiofs file system: Tag is what the guest mounts, Socket the
// unix socket on which a vhost-user-fs back end listens already.
type Share struct {
	Tag    string
	Socket string
}

// State is what a machine's processors do.
type State string

const (
	Running State = "running"
	Paused  State = "paused"
	// IOError: paused by the monitor, because a write to a disk image failed
	// on the host, for lack of space as a rule. Resume tries the write again.
	IOError State = "io-error"
	Dead    State = "dead"
)

// Usage is what the monitor's process consumes on the host.
type Usage struct {
	CPU      time.Duration // processor time since the start
	Resident int64         // resident memory in bytes, shared guest memory included
}

// Driver starts machines.
type Driver interface {
	// Start boots a machine. The machine lives until Kill, until its guest
	// powers off or resets, or until this process dies, whatever kills it;
	// ctx bounds only the start. On an error nothing is left behind.
	Start(ctx context.Context, c Config) (Machine, error)
}

// Machine is one virtual machine. Its methods are safe for concurrent use.
type Machine interface {
	// Control connects to the guest's control port, a byte stream
	// (virtio-serial). One connection exists at a time: the next call waits
	// for, or fails until, the previous one is closed.
	Control(ctx context.Context) (net.Conn, error)
	// State asks for the present state: Dead comes with ErrDead.
	State(ctx context.Context) (State, error)
	// Pause halts the processors, Resume lets them go on. Both are idempotent.
	Pause(ctx context.Context) error
	Resume(ctx context.Context) error
	// AttachShare hot-plugs a share; the guest learns of it a moment after the
	// return. DetachShare unplugs it by its tag and returns once the guest has
	// let go of it. After an error, a share that was to be detached is still
	// attached; the guest may let go of it later.
	AttachShare(ctx context.Context, s Share) error
	DetachShare(ctx context.Context, tag string) error
	// Usage reads the monitor's consumption; it works without the guest.
	Usage() (Usage, error)
	// PID is the monitor's process id, for diagnosis.
	PID() int
	// Kill ends the machine at once, like pulling the plug, and returns when
	// the monitor has exited. It is idempotent and works in every state.
	Kill() error
	// Done is closed when the monitor has exited, for whatever reason; Err
	// then says why: nil after Kill and after the guest's own power-off,
	// ErrReset when the guest reset itself, else what the monitor last said.
	// When Done is closed, all console output was written.
	Done() <-chan struct{}
	Err() error
}
