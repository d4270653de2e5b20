package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"

	"sbx/internal/vmm"
	"sbx/internal/vmm/qemu/qmp"
)

// machine is a running QEMU. Its supervise goroutine owns the process and ends
// after it; the other methods only send orders.
type machine struct {
	dir     string
	proc    *process
	log     *monitorLog
	console *console
	shares  *shares

	mon     *qmp.Client
	control chan struct{} // holds a token while a control connection exists
	stopped chan struct{} // told that the processors have stopped
	killed  atomic.Bool   // by Kill

	mu       sync.Mutex
	shutdown string // QEMU's reason for ending, from its SHUTDOWN event
	fault    error  // why supervise ended the machine itself

	done chan struct{}
	err  error // set before done is closed
}

func newMachine(c vmm.Config, proc *process, log *monitorLog, con *console) *machine {
	return &machine{
		dir:     c.Dir,
		proc:    proc,
		log:     log,
		console: con,
		shares:  newShares(c.Shares),
		control: make(chan struct{}, 1),
		stopped: make(chan struct{}, 1),
		done:    make(chan struct{}),
	}
}

// supervise waits for the machine's end and cleans up after it.
func (m *machine) supervise() {
	defer close(m.done)
	for alive := true; alive; {
		select {
		case <-m.stopped:
			m.checkStop()
		case <-m.mon.Done():
			// Either QEMU has ended (its disks are closed before its monitor
			// is), or it broke the protocol; a machine that can't be
			// controlled must not go on.
			if err := m.mon.Violation(); err != nil {
				m.fail(fmt.Errorf("qemu broke its own protocol: %w", err))
			}
			alive = false
		}
	}
	m.proc.kill()
	<-m.proc.exited
	m.err = m.reason()
	m.cleanUp()
}

func (m *machine) cleanUp() {
	removeSockets(m.dir)
	m.console.wait()
}

// checkStop ends a machine whose processors stopped for good: KVM could not
// emulate an instruction. QEMU would keep it, paused, for a debugger.
func (m *machine) checkStop() {
	status, err := m.status(context.Background())
	if err == nil && status == "internal-error" {
		m.fail(errors.New("the processor stopped with an internal error: KVM does not truly work on this host; use software emulation (accelerator tcg)"))
	}
}

func (m *machine) fail(err error) {
	m.mu.Lock()
	if m.fault == nil {
		m.fault = err
	}
	m.mu.Unlock()
	m.proc.kill()
}

// reason says why the process, which has exited, did so.
func (m *machine) reason() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.fault != nil:
		return m.fault
	case m.killed.Load(), m.shutdown == "guest-shutdown":
		return nil
	case m.shutdown == "guest-reset", m.shutdown == "guest-panic":
		return vmm.ErrReset
	}
	if said := m.log.tail(); said != "" {
		return fmt.Errorf("qemu ended (%w): %s", m.proc.cause(), said)
	}
	return fmt.Errorf("qemu ended: %w", m.proc.cause())
}

// onEvent runs on the reader's goroutine and must not block.
func (m *machine) onEvent(e qmp.Event) {
	switch e.Name {
	case "SHUTDOWN":
		var data struct{ Reason string }
		if json.Unmarshal(e.Data, &data) == nil {
			m.mu.Lock()
			m.shutdown = data.Reason
			m.mu.Unlock()
		}
	case "STOP":
		select {
		case m.stopped <- struct{}{}:
		default:
		}
	case "BLOCK_IO_ERROR":
		var data struct{ Device, Operation, Reason string }
		if json.Unmarshal(e.Data, &data) == nil {
			m.log.note("a %.10s on a disk image failed: %.200s", data.Operation, data.Reason)
		}
	case "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR":
		var data struct{ Device string }
		if json.Unmarshal(e.Data, &data) == nil {
			m.shares.event(data.Device, e.Name == "DEVICE_DELETED")
		}
	}
}

// execute runs a QMP command, in the words of the vmm contract.
func (m *machine) execute(ctx context.Context, command string, args, reply any) error {
	select {
	case <-m.done:
		return vmm.ErrDead
	default:
	}
	err := m.mon.Execute(ctx, command, args, reply)
	if errors.Is(err, qmp.ErrClosed) {
		return vmm.ErrDead
	}
	return err
}

func (m *machine) status(ctx context.Context) (string, error) {
	var reply struct{ Status string }
	err := m.execute(ctx, "query-status", nil, &reply)
	return reply.Status, err
}

// State implements vmm.Machine.
func (m *machine) State(ctx context.Context) (vmm.State, error) {
	status, err := m.status(ctx)
	switch {
	case errors.Is(err, vmm.ErrDead):
		return vmm.Dead, err
	case err != nil:
		return "", err
	}
	switch status {
	case "running":
		return vmm.Running, nil
	case "io-error":
		return vmm.IOError, nil
	default:
		return vmm.Paused, nil
	}
}

// Pause implements vmm.Machine.
func (m *machine) Pause(ctx context.Context) error { return m.execute(ctx, "stop", nil, nil) }

// Resume implements vmm.Machine.
func (m *machine) Resume(ctx context.Context) error { return m.execute(ctx, "cont", nil, nil) }

// Control implements vmm.Machine; it waits for the previous connection's end.
func (m *machine) Control(ctx context.Context) (net.Conn, error) {
	select {
	case <-m.done:
		return nil, vmm.ErrDead
	default:
	}
	select {
	case m.control <- struct{}{}:
	case <-m.done:
		return nil, vmm.ErrDead
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the previous control connection: %w", ctx.Err())
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(m.dir, controlSocket))
	if err != nil {
		<-m.control
		select {
		case <-m.proc.exited:
			return nil, vmm.ErrDead
		default:
			return nil, fmt.Errorf("connect to the control port: %w", err)
		}
	}
	return &controlConn{Conn: conn, release: sync.OnceFunc(func() { <-m.control })}, nil
}

type controlConn struct {
	net.Conn
	release func()
}

func (c *controlConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}

// Usage implements vmm.Machine.
func (m *machine) Usage() (vmm.Usage, error) {
	select {
	case <-m.proc.exited:
		return vmm.Usage{}, vmm.ErrDead
	default:
		return m.proc.usage()
	}
}

// PID implements vmm.Machine.
func (m *machine) PID() int { return m.proc.pid }

// Kill implements vmm.Machine.
func (m *machine) Kill() error {
	select {
	case <-m.proc.exited: // for a reason of its own, which Err shall tell
	default:
		m.killed.Store(true)
		m.proc.kill()
	}
	<-m.done
	return nil
}

// Done implements vmm.Machine.
func (m *machine) Done() <-chan struct{} { return m.done }

// Err implements vmm.Machine.
func (m *machine) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}
