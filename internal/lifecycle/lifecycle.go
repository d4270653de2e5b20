// Package lifecycle creates, starts, stops and removes sandboxes: the few
// operations that join a sandbox's files with its running supervisor.
//
// Every operation may be interrupted at any moment, by kill -9 too, and may
// race another process that does the same or the opposite: each leaves the old
// state or the new one, and any operation may follow.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"sbx/internal/dirs"
	"sbx/internal/kernel"
	"sbx/internal/sandbox"
	"sbx/internal/supervisor"
	"sbx/internal/template"
	"sbx/internal/vmm/qemu"
)

// Manager operates on the sandboxes of one user.
type Manager struct {
	Dirs    dirs.Dirs
	Store   *sandbox.Store
	Monitor string       // path of QEMU; empty: the one in PATH
	Warn    func(string) // told once about each thing that is not as it should be
}

// Create adds the stopped sandbox r, whose Template.Name, sizes and workspaces
// are set; it fills in the rest. Kernel may be nil: the default one.
func (m *Manager) Create(ctx context.Context, r *sandbox.Record, k *kernel.Kernel) (err error) {
	release, err := template.Share(ctx, m.Dirs.Cache) // nobody removes it under us
	if err != nil {
		return err
	}
	defer release()
	image, err := template.Open(m.Dirs.Cache, r.Template.Name)
	if errors.Is(err, template.ErrNotFound) {
		return fmt.Errorf("template %q is not on this machine; run: sbx setup", r.Template.Name)
	}
	if err != nil {
		return err
	}
	if r.Disk < image.Size {
		return fmt.Errorf("--disk: template %q needs %d MiB at least", r.Template.Name, image.Size>>20)
	}
	if k == nil {
		if k, err = kernel.Open(m.Dirs.Cache); errors.Is(err, kernel.ErrNone) {
			return errors.New("no kernel is prepared on this machine; run: sbx setup")
		}
		if err != nil {
			return err
		}
	}
	inst, err := qemu.Find(ctx, m.Monitor)
	if err != nil {
		return err
	}
	r.ID = sandbox.NewID()
	r.Template.ID, r.Kernel = image.ID, k.ID
	if err := checkSpace(m.Dirs.State); err != nil {
		return err
	}
	return m.Store.Create(r, func(dir string) error {
		return qemu.CreateOverlay(ctx, inst, image.Image, dir+"/disk.qcow2", r.Disk)
	})
}

// Start makes a sandbox run; one that runs already is left alone.
func (m *Manager) Start(ctx context.Context, name string) error {
	if m.Store.Locked(name) && m.Client(name).WaitReady(ctx) == nil {
		return nil
	}
	return supervisor.Spawn(ctx, m.Store, name, m.Warn)
}

// Stop ends a running sandbox and returns when its files are nobody's: in
// order, or at once with force. A stopped sandbox is left alone.
func (m *Manager) Stop(ctx context.Context, name string, force bool) error {
	stop := m.stopAndLock
	if force {
		stop = m.forceAndLock
	}
	lock, err := stop(ctx, name)
	if err != nil {
		return err
	}
	return lock.Release()
}

// Remove deletes a sandbox, running or not, with all its files.
func (m *Manager) Remove(ctx context.Context, name string) error {
	lock, err := m.forceAndLock(ctx, name)
	if err != nil {
		return err
	}
	defer lock.Release()
	return m.Store.Remove(name)
}

// RemoveStopped deletes a sandbox only if nobody runs it; else the error wraps
// sandbox.ErrLocked.
func (m *Manager) RemoveStopped(_ context.Context, name string) error {
	lock, err := m.Store.Lock(name)
	if err != nil {
		return err
	}
	defer lock.Release()
	return m.Store.Remove(name)
}

// forcePatience is what a supervisor gets to pull the plug before it is killed
// itself: it may hang in a system call, or be halted by a debugger.
const forcePatience = 20 * time.Second

// forceAndLock ends the sandbox at once, whatever state it is in.
func (m *Manager) forceAndLock(ctx context.Context, name string) (*sandbox.Lock, error) {
	patient, cancel := context.WithTimeout(ctx, forcePatience)
	defer cancel()
	lock, err := m.endAndLock(patient, name, true)
	if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return lock, err
	}
	m.Warn(fmt.Sprintf("the supervisor of %s does not react; killing it", name))
	if err := m.Client(name).Kill(); err != nil {
		return nil, fmt.Errorf("sandbox %q: its supervisor does not react: %w", name, err)
	}
	return m.Store.LockWait(ctx, name)
}

// stopAndLock stops the sandbox in order, however long its guest takes: the
// supervisor bounds that.
func (m *Manager) stopAndLock(ctx context.Context, name string) (*sandbox.Lock, error) {
	return m.endAndLock(ctx, name, false)
}

// endAndLock leaves the sandbox stopped, with its lock in our hands. The
// supervisor may be about to open its socket or to die: the lock decides.
func (m *Manager) endAndLock(ctx context.Context, name string, force bool) (*sandbox.Lock, error) {
	for {
		lock, err := m.Store.Lock(name)
		if !errors.Is(err, sandbox.ErrLocked) {
			return lock, err
		}
		err = m.Client(name).Stop(ctx, force)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && !errors.Is(err, supervisor.ErrNotRunning) {
			return nil, fmt.Errorf("sandbox %q: %w", name, err)
		}
		if err == nil {
			return m.Store.LockWait(ctx, name)
		}
		if lock, err = m.Store.LockSoon(ctx, name); !errors.Is(err, sandbox.ErrLocked) {
			return lock, err
		}
	}
}

// Status of a sandbox; the error wraps supervisor.ErrNotRunning for a stopped one.
func (m *Manager) Status(ctx context.Context, name string) (*supervisor.Status, error) {
	if !m.Store.Locked(name) {
		return nil, supervisor.ErrNotRunning
	}
	return m.Client(name).Status(ctx)
}

// Client gives access to a running sandbox.
func (m *Manager) Client(name string) *supervisor.Client {
	return supervisor.NewClient(m.Store.RuntimeDir(name))
}

// UsersOf names the sandboxes whose disks overlay a template.
func (m *Manager) UsersOf(templateID string) ([]string, error) {
	names, err := m.Store.Names()
	if err != nil {
		return nil, err
	}
	var users []string
	for _, name := range names {
		r, err := m.Store.Get(name)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, sandbox.ErrNotFound) {
			continue
		}
		// One that can't be read may well need it.
		if err != nil || r.Template.ID == templateID {
			users = append(users, name)
		}
	}
	return users, nil
}
