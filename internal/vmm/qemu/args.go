package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"sbx/internal/vmm"
)

// Descriptors that the child inherits, in the order of exec.Cmd.ExtraFiles.
const (
	qmpFD     = 3
	consoleFD = 4
	earlyFD   = 5
)

// controlSocket is the file in Config.Dir behind Machine.Control.
const controlSocket = "ctl.sock"

const (
	// sparePorts is how many devices can be plugged in after the boot, beyond
	// those that were there at boot. Each costs the guest a bus to scan.
	sparePorts = 4
	maxDisks   = 8
	maxShares  = 8
	// shareQueueSize is the deepest that QEMU lets a virtiofs queue be in all
	// supported versions without more vectors.
	shareQueueSize = 512
	// firstDiskSlot leaves the slots below to the fixed devices, so that disks
	// keep their order and addresses whatever else the machine has.
	firstDiskSlot = 0x10
	firstPortSlot = 0x8
	minMemory     = 64 << 20
)

// board is what differs between architectures.
type board struct {
	machine     string // -machine type and properties
	firmware    bool   // needs -bios
	tcgParams   string // kernel parameters under TCG
	earlyParams string // kernel parameters for messages before the console is up
}

var boards = map[string]board{
	"amd64": {
		// No SATA, SMBus, PS/2 nor VMware port: less for the guest to attack
		// and to look for.
		machine:  "q35,sata=off,smbus=off,vmport=off,i8042=off",
		firmware: true,
		// Under emulation the kernel distrusts the TSC and falls back to the
		// HPET, which is slow, and its timer test can fail on a busy host.
		// With KVM, kvmclock knows better.
		tcgParams:   "tsc=reliable no_timer_check",
		earlyParams: "earlycon=uart8250,io,0x3f8 8250.nr_uarts=0",
	},
	"arm64": {machine: "virt,gic-version=max", earlyParams: "earlycon"},
}

// validate refuses what QEMU would refuse with a worse message, or not at all.
func validate(c vmm.Config) error {
	if c.CPUs < 1 {
		return fmt.Errorf("%d processors: at least 1 is needed", c.CPUs)
	}
	if c.Memory < minMemory {
		return fmt.Errorf("%d bytes of memory: at least %d MiB are needed", c.Memory, minMemory>>20)
	}
	if c.Accel != vmm.KVM && c.Accel != vmm.TCG {
		return fmt.Errorf("unknown accelerator %q", c.Accel)
	}
	if len(c.Disks) > maxDisks {
		return fmt.Errorf("%d disks: at most %d are possible", len(c.Disks), maxDisks)
	}
	if len(c.Shares) > maxShares {
		return fmt.Errorf("%d shares: at most %d are possible", len(c.Shares), maxShares)
	}
	for _, d := range c.Disks {
		if d.Format != "raw" && d.Format != "qcow2" {
			return fmt.Errorf("disk %s: unknown format %q", d.Path, d.Format)
		}
		if err := absolute("disk", d.Path); err != nil {
			return err
		}
	}
	tags := make(map[string]bool)
	for _, s := range c.Shares {
		if err := validateShare(s); err != nil {
			return err
		}
		if tags[s.Tag] {
			return fmt.Errorf("share %q is given twice", s.Tag)
		}
		tags[s.Tag] = true
	}
	if strings.ContainsAny(c.Cmdline, "\n\x00") {
		return errors.New("the kernel's command line must be one line")
	}
	return errors.Join(absolute("directory", c.Dir), absolute("kernel", c.Kernel), absolute("initrd", c.Initrd),
		checkSocket(filepath.Join(c.Dir, controlSocket)))
}

func absolute(what, path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s %q: the path must be absolute", what, path)
	}
	return nil
}

// maxTag is the size of the tag field in the virtiofs configuration (virtio
// 1.2, section 5.11.4).
const maxTag = 36

func validateShare(s vmm.Share) error {
	if s.Tag == "" || len(s.Tag) > maxTag {
		return fmt.Errorf("share %q: the tag must have 1 to %d bytes", s.Tag, maxTag)
	}
	if err := absolute("socket", s.Socket); err != nil {
		return err
	}
	return checkSocket(s.Socket)
}

// checkSocket refuses a path that does not fit in sockaddr_un (unix(7)); 104
// is the limit of the BSDs, Linux has 108.
func checkSocket(path string) error {
	const limit = 104
	if len(path) >= limit {
		return fmt.Errorf("socket path %s has %d bytes, but at most %d are possible; set XDG_RUNTIME_DIR to a shorter path",
			path, len(path), limit-1)
	}
	return nil
}

// arguments is QEMU's command line for c on architecture arch.
func arguments(inst Installation, arch string, c vmm.Config) []string {
	b := boards[arch]
	mib := c.Memory >> 20
	args := []string{
		"-name", "guest=" + escape(c.Name),
		// Nothing from configuration files, and no default devices.
		"-no-user-config", "-nodefaults", "-display", "none", "-nic", "none",
		// A reset ends the process: the caller decides whether to start again.
		"-no-reboot",
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-machine", b.machine + ",memory-backend=mem",
		"-smp", strconv.Itoa(c.CPUs),
		"-m", fmt.Sprintf("%dM", mib),
		// Shared, so that vhost-user back ends can map it; a memfd, so that
		// nothing is on disk and it is gone with the last process that has it.
		"-object", fmt.Sprintf("memory-backend-memfd,id=mem,size=%dM,share=on,dump=off", mib),
	}
	args = append(args, accelArgs(c.Accel)...)
	if inst.DataDir != "" {
		args = append(args, "-L", inst.DataDir)
	}
	if b.firmware {
		args = append(args, "-bios", inst.Firmware)
	}
	args = append(args,
		"-kernel", c.Kernel, "-initrd", c.Initrd, "-append", kernelParams(b, c),
		"-chardev", fmt.Sprintf("socket,id=qmp,fd=%d", qmpFD), "-mon", "chardev=qmp,mode=control",
	)
	args = append(args, consoleArgs(c)...)
	args = append(args, memoryArgs()...)
	args = append(args, diskArgs(c.Disks)...)
	return append(args, portArgs(c.Shares)...)
}

func accelArgs(a vmm.Accel) []string {
	if a == vmm.KVM {
		return []string{"-accel", "kvm", "-cpu", "host"}
	}
	return []string{"-accel", "tcg,thread=multi", "-cpu", "max"}
}

// kernelParams: the console is a virtio one, because each character on a
// serial port is an exit (under TCG: a slow one). Until it is up, what is worth
// printing goes to the serial port; quiet comes first, so that it holds for the
// early console too. A panic resets the machine, and that ends it.
func kernelParams(b board, c vmm.Config) string {
	params := []string{"quiet", "console=hvc0", b.earlyParams, "panic=-1", "random.trust_cpu=on", "cryptomgr.notests"}
	if c.Accel == vmm.TCG && b.tcgParams != "" {
		params = append(params, b.tcgParams)
	}
	if c.Cmdline != "" {
		params = append(params, c.Cmdline)
	}
	return strings.Join(params, " ")
}

// consoleArgs: port 0 is the console, port 1 the control stream, which is the
// only socket on the file system.
func consoleArgs(c vmm.Config) []string {
	return []string{
		"-chardev", fmt.Sprintf("socket,id=early,fd=%d", earlyFD), "-serial", "chardev:early",
		"-device", "virtio-serial-pci,id=vser,max_ports=2,disable-legacy=on,romfile=",
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD),
		"-device", "virtconsole,bus=vser.0,nr=0,chardev=console",
		"-chardev", "socket,id=ctl,server=on,wait=off,path=" + escape(filepath.Join(c.Dir, controlSocket)),
		"-device", "virtserialport,bus=vser.0,nr=1,chardev=ctl,name=ctl",
	}
}

// memoryArgs: the guest reports the pages that it frees and QEMU gives them
// back to the host; the balloon itself stays empty. Entropy is rationed, so
// that a guest cannot keep QEMU's main loop busy with it.
func memoryArgs() []string {
	return []string{
		"-device", "virtio-balloon-pci,id=balloon,free-page-reporting=on,deflate-on-oom=on,disable-legacy=on,romfile=",
		"-object", "rng-builtin,id=rng",
		"-device", "virtio-rng-pci,rng=rng,max-bytes=65536,period=1000,disable-legacy=on,romfile=",
	}
}

// diskArgs. Caching stays at writeback: what the guest flushes, QEMU flushes
// to the image (for qcow2 with the metadata it needs) before it answers, so
// what the guest fsynced survives the death of QEMU and of the host; the rest
// sits in the host's page cache and survives the death of QEMU.
//
// A write that fails on the host (no space, over quota, a drive unplugged)
// pauses the guest instead of failing in it, and is tried again by Resume. A
// read that fails is reported to the guest: a bad sector must not make the
// whole machine useless.
//
// aio=threads rather than io_uring: it works in every container and under
// every seccomp profile, and QEMU needs one kernel interface less.
func diskArgs(disks []vmm.Disk) []string {
	var args []string
	for i, d := range disks {
		node := "disk" + strconv.Itoa(i)
		args = append(args,
			"-blockdev", blockdev(node, d),
			"-device", fmt.Sprintf("virtio-blk-pci,drive=%s,id=vd%d,addr=%#x,werror=stop,rerror=report,disable-legacy=on,romfile=",
				node, i, firstDiskSlot+i))
	}
	return args
}

func blockdev(node string, d vmm.Disk) string {
	options := map[string]any{
		"node-name": node,
		"driver":    d.Format,
		"read-only": d.ReadOnly,
		"discard":   "unmap",
		"file":      fileNode(d.Path, d.ReadOnly),
	}
	if d.Format == "qcow2" {
		options["backing"] = nil // none, whatever the header says
	}
	if d.Backing != "" {
		options["backing"] = map[string]any{"driver": "raw", "read-only": true, "file": fileNode(d.Backing, true)}
	}
	b, err := json.Marshal(options)
	if err != nil {
		panic(err) // strings and booleans only
	}
	return string(b)
}

func fileNode(path string, readOnly bool) map[string]any {
	return map[string]any{
		"driver":    "file",
		"filename":  path,
		"read-only": readOnly,
		"discard":   "unmap",
		"aio":       "threads",
		"locking":   "on",
	}
}

// portArgs makes a root port for every share and the spare ones, all of which
// can be unplugged from and plugged into.
func portArgs(shares []vmm.Share) []string {
	var args []string
	for i := range len(shares) + sparePorts {
		args = append(args, "-device", fmt.Sprintf("pcie-root-port,id=%s,chassis=%d,slot=%d,addr=%#x.%d,multifunction=on",
			portName(i), i+1, i+1, firstPortSlot+i/8, i%8))
	}
	for i, s := range shares {
		args = append(args,
			"-chardev", fmt.Sprintf("socket,id=%s,path=%s", chardevName(i), escape(s.Socket)),
			"-device", fmt.Sprintf("vhost-user-fs-pci,id=%s,bus=%s,chardev=%s,tag=%s,queue-size=%d,romfile=",
				shareName(i), portName(i), chardevName(i), escape(s.Tag), shareQueueSize))
	}
	return args
}

func portName(i int) string    { return "port" + strconv.Itoa(i) }
func shareName(i int) string   { return "share" + strconv.Itoa(i) }
func chardevName(i int) string { return "share" + strconv.Itoa(i) + "-socket" }

// escape protects a value in QEMU's option syntax, where a comma ends it
// unless it is doubled.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
