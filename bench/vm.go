package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"sbx/internal/control"
	"sbx/internal/dirs"
	"sbx/internal/kernel"
	"sbx/internal/settings"
	"sbx/internal/template"
	"sbx/internal/vmm"
	"sbx/internal/vmm/qemu"
)

// Every machine of a run is of this size, so that they can be compared.
const (
	machineCPUs   = 2
	machineMemory = 1 << 30
	machineDisk   = 20 << 30
	shareTag      = "sbx"
)

// prepared is what setup left behind.
type prepared struct {
	qemu   *qemu.Installation
	kernel *kernel.Kernel
	initrd string
	image  *template.Template
	accel  vmm.Accel
}

func findPrepared(ctx context.Context) (p prepared, err error) {
	d, err := dirs.Find()
	if err != nil {
		return p, err
	}
	s, err := settings.Load(filepath.Join(d.Config, "settings.yaml"))
	if err != nil {
		return p, err
	}
	if p.qemu, err = qemu.Find(ctx, s.QEMU()); err != nil {
		return p, err
	}
	if p.kernel, err = kernel.Open(d.Cache); err != nil {
		return p, err
	}
	if p.initrd, err = p.kernel.Initramfs(); err != nil {
		return p, err
	}
	if p.image, err = template.Open(d.Cache, "debian"); err != nil {
		return p, err
	}
	p.accel = vmm.TCG
	if s.Accel() != "tcg" && qemu.ProbeCached(ctx, d.Cache, p.qemu, p.kernel.Vmlinux(), p.initrd).Usable {
		p.accel = vmm.KVM
	}
	return p, nil
}

// config is a machine with the devices that a sandbox has, its files in dir;
// share is the socket of a workspace server.
func (p prepared) config(ctx context.Context, dir, share string) (vmm.Config, error) {
	disk := filepath.Join(dir, "disk.qcow2")
	if err := qemu.CreateOverlay(ctx, p.qemu, p.image.Image, disk, machineDisk); err != nil {
		return vmm.Config{}, err
	}
	c := vmm.Config{
		Name: "bench", Dir: dir, Kernel: p.kernel.Vmlinux(), Initrd: p.initrd,
		CPUs: machineCPUs, Memory: machineMemory, Accel: p.accel,
		Disks:  []vmm.Disk{{Path: disk, Format: "qcow2", Backing: p.image.Image}},
		Shares: []vmm.Share{{Tag: shareTag, Socket: share}},
	}
	if m := p.kernel.ModulesImage(); m != "" {
		c.Disks = append(c.Disks, vmm.Disk{Path: m, Format: "raw", ReadOnly: true})
	}
	return c, nil
}

// guest is a machine that takes commands, without supervisor and CLI.
type guest struct {
	machine vmm.Machine
	mux     *control.Mux
}

// bootGuest starts a machine in dir whose share's child "0" becomes /work.
func (p prepared) bootGuest(ctx context.Context, dir, share string) (_ *guest, err error) {
	c, err := p.config(ctx, dir, share)
	if err != nil {
		return nil, err
	}
	console := &logTail{}
	c.Console, c.Log = console, console
	m, err := qemu.New(p.qemu).Start(ctx, c)
	if err != nil {
		return nil, err
	}
	g := &guest{machine: m}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w; the machine said: %s", errors.Join(err, g.close()), console.last(300))
		}
	}()
	port, err := m.Control(ctx)
	if err != nil {
		return nil, err
	}
	if g.mux, err = control.DialMux(ctx, port); err != nil {
		return nil, err
	}
	client, err := g.client(ctx)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return g, client.Configure(ctx, configuration())
}

func configuration() control.Configure {
	entropy, id := make([]byte, 64), make([]byte, 16)
	rand.Read(entropy)
	rand.Read(id)
	return control.Configure{
		Hostname: "bench", MachineID: hex.EncodeToString(id), Time: time.Now().UnixNano(), Entropy: entropy,
		RootDevice: "/dev/vda", ModulesDevice: "/dev/vdb", ShareTag: shareTag,
		Mounts: []control.Mount{{Source: "0", Target: "/work"}},
		User:   "agent", Workdir: "/work",
	}
}

func (g *guest) client(ctx context.Context) (*control.Client, error) {
	stream, err := g.mux.Open(ctx)
	if err != nil {
		return nil, err
	}
	return control.NewClient(ctx, stream, "root")
}

// run runs a program as root and returns its output.
func (g *guest) run(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	client, err := g.client(ctx)
	if err != nil {
		return "", err
	}
	defer client.Close()
	var out, errs bytes.Buffer
	exit, err := client.Exec(ctx, control.Spawn{Argv: argv, Dir: "/"}, control.IO{Stdin: stdin, Stdout: &out, Stderr: &errs})
	if err != nil {
		return "", err
	}
	if exit.Status() != 0 {
		return "", fmt.Errorf("%s in the guest: exit code %d: %s", strings.Join(argv, " "), exit.Status(), strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}

func (g *guest) close() error {
	if g.mux != nil {
		g.mux.Close()
	}
	return g.machine.Kill()
}

// machineDir makes a private directory for a machine and its sockets.
func (b *bench) machineDir() (string, error) {
	dir, err := b.temp("m")
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o700)
}

// logTail keeps what a machine said last.
type logTail struct {
	mu  sync.Mutex
	buf []byte
}

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - 4096; over > 0 {
		l.buf = l.buf[over:]
	}
	return len(p), nil
}

func (l *logTail) last(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(strings.Fields(string(l.buf[max(0, len(l.buf)-n):])), " ")
}
