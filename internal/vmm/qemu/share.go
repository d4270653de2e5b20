package qemu

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"sbx/internal/vmm"
	"sbx/internal/vmm/qemu/qmp"
)

// shares keeps account of the virtiofs devices and of the ports they are in.
// Device and port have the same number.
type shares struct {
	mu    sync.Mutex
	slots []*share // by number; nil: the port is free
}

// share is a device in a port.
type share struct {
	tag     string
	busy    bool          // being attached or detached
	gone    chan struct{} // closed when QEMU has deleted the device
	deleted bool          // gone is closed
	refused chan struct{} // told when the guest refused to let go
}

func newShare(tag string) *share {
	return &share{tag: tag, gone: make(chan struct{}), refused: make(chan struct{}, 1)}
}

func newShares(boot []vmm.Share) *shares {
	s := &shares{slots: make([]*share, len(boot)+sparePorts)}
	for i, b := range boot {
		s.slots[i] = newShare(b.Tag)
	}
	return s
}

// event notes what QEMU says about a device. A guest may also throw a device
// out on its own.
func (s *shares) event(device string, deleted bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, sh := range s.slots {
		if sh == nil || shareName(i) != device {
			continue
		}
		if deleted && !sh.deleted {
			sh.deleted = true
			close(sh.gone)
		}
		if !deleted {
			select {
			case sh.refused <- struct{}{}:
			default:
			}
		}
	}
}

// reserve takes a free port for tag.
func (s *shares) reserve(tag string) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := -1
	for i, sh := range s.slots {
		switch {
		case sh == nil && free < 0:
			free = i
		case sh != nil && sh.tag == tag:
			return 0, fmt.Errorf("a share with that tag is attached already")
		}
	}
	if free < 0 {
		return 0, fmt.Errorf("all %d ports are in use", len(s.slots))
	}
	s.slots[free] = newShare(tag)
	s.slots[free].busy = true
	return free, nil
}

// claim finds the share of tag for one caller at a time.
func (s *shares) claim(tag string) (int, *share, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, sh := range s.slots {
		if sh == nil || sh.tag != tag {
			continue
		}
		if sh.busy {
			return 0, nil, errors.New("it is being attached or detached already")
		}
		sh.busy = true
		return i, sh, nil
	}
	return 0, nil, errors.New("no such share is attached")
}

// settle ends a reserve or claim; the port is free again unless keep.
func (s *shares) settle(i int, keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if keep {
		s.slots[i].busy = false
	} else {
		s.slots[i] = nil
	}
}

// AttachShare implements vmm.Machine.
func (m *machine) AttachShare(ctx context.Context, s vmm.Share) error {
	err := validateShare(s)
	if err == nil {
		err = m.attach(ctx, s)
	}
	if err != nil {
		return fmt.Errorf("attach share %q: %w", s.Tag, err)
	}
	return nil
}

func (m *machine) attach(ctx context.Context, s vmm.Share) error {
	i, err := m.shares.reserve(s.Tag)
	if err != nil {
		return err
	}
	err = m.plug(ctx, i, s)
	m.shares.settle(i, err == nil)
	return err
}

// plug adds the socket and then the device; both or none. It is not cut short
// by ctx half-way: an order that QEMU has got can't be taken back.
func (m *machine) plug(ctx context.Context, i int, s vmm.Share) error {
	socket := map[string]any{
		"id": chardevName(i),
		"backend": map[string]any{"type": "socket", "data": map[string]any{
			"addr":   map[string]any{"type": "unix", "data": map[string]any{"path": s.Socket}},
			"server": false,
		}},
	}
	if err := m.execute(ctx, "chardev-add", socket, nil); err != nil {
		return err
	}
	device := map[string]any{
		"driver": "vhost-user-fs-pci", "id": shareName(i), "bus": portName(i),
		"chardev": chardevName(i), "tag": s.Tag, "queue-size": shareQueueSize, "romfile": "",
	}
	err := m.execute(ctx, "device_add", device, nil)
	if err != nil {
		return errors.Join(err, m.removeSocket(context.WithoutCancel(ctx), i))
	}
	return nil
}

func (m *machine) removeSocket(ctx context.Context, i int) error {
	return m.execute(ctx, "chardev-remove", map[string]any{"id": chardevName(i)}, nil)
}

// DetachShare implements vmm.Machine. When it fails, because ctx ended or the
// guest refused, the share is still attached and the call can be repeated.
func (m *machine) DetachShare(ctx context.Context, tag string) error {
	i, sh, err := m.shares.claim(tag)
	if err == nil {
		err = m.unplug(ctx, i, sh)
		m.shares.settle(i, err != nil)
	}
	if err != nil {
		return fmt.Errorf("detach share %q: %w", tag, err)
	}
	return nil
}

func (m *machine) unplug(ctx context.Context, i int, sh *share) error {
	select {
	case <-sh.gone:
		return m.removeSocket(ctx, i)
	case <-sh.refused: // of an earlier attempt
	default:
	}
	err := m.execute(ctx, "device_del", map[string]any{"id": shareName(i)}, nil)
	if err != nil && !unplugPending(err) && !deviceMissing(err) {
		return err
	}
	select {
	case <-sh.gone:
		return m.removeSocket(ctx, i)
	case <-sh.refused:
		return errors.New("the guest refused to let go of it")
	case <-m.done:
		return vmm.ErrDead
	case <-ctx.Done():
		return fmt.Errorf("the guest has not let go of it: %w", ctx.Err())
	}
}

// unplugPending: an earlier attempt is still before the guest.
func unplugPending(err error) bool {
	var refusal *qmp.Error
	return errors.As(err, &refusal) && strings.Contains(refusal.Desc, "in the process of unplug")
}

// deviceMissing: it went away in between; its event is on its way.
func deviceMissing(err error) bool {
	var refusal *qmp.Error
	return errors.As(err, &refusal) && refusal.Class == "DeviceNotFound"
}
