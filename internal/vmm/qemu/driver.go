package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"sbx/internal/vmm"
	"sbx/internal/vmm/qemu/qmp"
)

// Driver is a vmm.Driver. It holds no state of its own.
type Driver struct {
	inst Installation
}

// New makes a driver that starts machines with inst.
func New(inst *Installation) *Driver { return &Driver{inst: *inst} }

// Start implements vmm.Driver.
func (d *Driver) Start(ctx context.Context, c vmm.Config) (vmm.Machine, error) {
	m, err := d.start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start virtual machine %q: %w", c.Name, err)
	}
	return m, nil
}

func (d *Driver) start(ctx context.Context, c vmm.Config) (*machine, error) {
	if err := validate(c); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	files := accessFor(d.inst, c)
	var l lines
	defer l.closeTheirs()
	if err := l.open(); err != nil {
		return nil, err
	}
	log := newMonitorLog(c.Log)
	proc, err := spawn(d.inst.Binary, arguments(d.inst, runtime.GOARCH, c), c.Dir, l.theirs, files, log)
	if err != nil {
		l.closeOurs()
		return nil, err
	}
	l.closeTheirs()
	m := newMachine(c, proc, log, startConsole(c.Console, l.console, l.early))
	mon, err := qmp.Connect(ctx, l.qmp, m.onEvent)
	if err != nil {
		proc.kill()
		<-proc.exited
		m.cleanUp()
		return nil, startError(err, proc, log)
	}
	m.mon = mon
	go m.supervise()
	return m, nil
}

// startError prefers what QEMU said to how that reached us.
func startError(err error, proc *process, log *monitorLog) error {
	if !errors.Is(err, qmp.ErrClosed) {
		return err
	}
	if said := log.tail(); said != "" {
		return fmt.Errorf("qemu refused: %s", said)
	}
	return fmt.Errorf("qemu ended at once: %w", proc.cause())
}

// lines are the connections to a QEMU that are not sockets on a file system:
// nobody else can join or take them over, and they end with the process.
type lines struct {
	qmp, console, early net.Conn
	theirs              []*os.File // in the order of qmpFD, consoleFD, earlyFD
}

func (l *lines) open() error {
	for _, ours := range []*net.Conn{&l.qmp, &l.console, &l.early} {
		conn, file, err := socketPair()
		if err != nil {
			l.closeOurs()
			return fmt.Errorf("make a socket pair: %w", err)
		}
		*ours, l.theirs = conn, append(l.theirs, file)
	}
	return nil
}

func (l *lines) closeTheirs() {
	for _, f := range l.theirs {
		_ = f.Close()
	}
	l.theirs = nil
}

func (l *lines) closeOurs() {
	for _, c := range []io.Closer{l.qmp, l.console, l.early} {
		if conn, ok := c.(net.Conn); ok && conn != nil {
			_ = conn.Close()
		}
	}
}

// removeSockets removes what QEMU left in the machine's directory.
func removeSockets(dir string) { _ = os.Remove(filepath.Join(dir, controlSocket)) }
