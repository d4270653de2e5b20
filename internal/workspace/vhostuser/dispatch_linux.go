package vhostuser

import (
	"errors"
	"fmt"
	"math"
)

var (
	errNoQueue = errors.New("there is no such queue")
	errNoFD    = errors.New("a descriptor is missing")
)

// dispatch acts on one message. A nil reply means that the message has none of
// its own; the caller then acknowledges it if the front end asked for that.
func (f *frontend) dispatch(m *message) (reply []byte, err error) {
	switch m.request {
	case reqGetFeatures:
		return appendU64(nil, supportedFeatures), nil
	case reqSetFeatures:
		return nil, f.setFeatures(m.payload)
	case reqGetProtocolFeatures:
		return appendU64(nil, supportedProtocolFeatures), nil
	case reqSetProtocolFeatures:
		return nil, f.setProtocolFeatures(m.payload)
	case reqGetQueueNum:
		return appendU64(nil, maxQueues), nil
	case reqSetOwner:
		return nil, nil
	case reqResetOwner:
		for _, q := range f.queues {
			q.stop()
		}
		return nil, nil
	case reqSetMemTable:
		return nil, f.setMemTable(m)
	case reqSetVringAddr:
		return nil, f.setVringAddr(m.payload)
	case reqSetVringNum, reqSetVringBase, reqSetVringEnable:
		return nil, f.setVringState(m)
	case reqGetVringBase:
		return f.getVringBase(m.payload)
	case reqSetVringKick, reqSetVringCall, reqSetVringErr:
		return nil, f.setVringFD(m)
	}
	return nil, errors.New("not supported")
}

func (f *frontend) setFeatures(payload []byte) error {
	v, err := parseU64(payload)
	if err != nil {
		return err
	}
	if extra := v &^ supportedFeatures; extra != 0 {
		return fmt.Errorf("feature bits %#x were not offered", extra)
	}
	f.features = v
	if v&featureProtocolFeatures != 0 {
		return nil // rings are enabled one by one
	}
	for _, q := range f.queues {
		if qerr := q.setEnabled(true); qerr != nil {
			err = qerr
		}
	}
	return err
}

func (f *frontend) setProtocolFeatures(payload []byte) error {
	v, err := parseU64(payload)
	if err != nil {
		return err
	}
	if extra := v &^ supportedProtocolFeatures; extra != 0 {
		return fmt.Errorf("protocol feature bits %#x were not offered", extra)
	}
	f.protocolFeatures = v
	return nil
}

func (f *frontend) setMemTable(m *message) error {
	fds := m.fds
	m.fds = nil // mapMemory owns them
	regions, err := parseMemTable(m.payload)
	if err != nil {
		closeFDs(fds)
		return err
	}
	mem, err := mapMemory(regions, fds)
	if err != nil {
		return err
	}
	for _, q := range f.queues {
		// A queue whose ring is gone is broken; the others go on.
		if qerr := q.moveTo(mem, false); qerr != nil {
			err = qerr
		}
	}
	f.setMemory(mem)
	return err
}

func (f *frontend) queue(index uint32) (*queue, error) {
	if index >= maxQueues {
		return nil, fmt.Errorf("queue %d: %w", index, errNoQueue)
	}
	return f.queues[index], nil
}

func (f *frontend) setVringState(m *message) error {
	s, err := parseVringState(m.payload)
	if err != nil {
		return err
	}
	q, err := f.queue(s.index)
	if err != nil {
		return err
	}
	switch m.request {
	case reqSetVringNum:
		if s.num == 0 || s.num > maxQueueSize || s.num&(s.num-1) != 0 {
			return fmt.Errorf("queue size %d is not a power of two up to %d", s.num, maxQueueSize)
		}
		return q.configure(func() { q.size = s.num })
	case reqSetVringBase:
		if s.num > math.MaxUint16 {
			return fmt.Errorf("ring index %d is out of range", s.num)
		}
		return q.configure(func() { q.base = uint16(s.num) })
	default:
		return q.setEnabled(s.num != 0)
	}
}

func (f *frontend) setVringAddr(payload []byte) error {
	a, err := parseVringAddr(payload)
	if err != nil {
		return err
	}
	q, err := f.queue(a.index)
	if err != nil {
		return err
	}
	return q.configure(func() { q.addr = a })
}

func (f *frontend) getVringBase(payload []byte) ([]byte, error) {
	s, err := parseVringState(payload)
	if err != nil {
		return make([]byte, 8), err
	}
	q, err := f.queue(s.index)
	if err != nil {
		return s.append(nil), err
	}
	s.num = uint32(q.stop())
	return s.append(nil), nil
}

func (f *frontend) setVringFD(m *message) error {
	v, err := parseU64(m.payload)
	if err != nil {
		return err
	}
	q, err := f.queue(uint32(v & vringIndexMask))
	if err != nil {
		return err
	}
	fd := -1
	if v&vringNoFD == 0 {
		if len(m.fds) != 1 {
			return errNoFD
		}
		fd = m.fds[0]
	} else if m.request == reqSetVringKick {
		return errors.New("a queue without a kick descriptor would have to be polled, which is not supported")
	}
	if fd >= 0 {
		if err := checkEventfd(fd, m.request != reqSetVringKick); err != nil {
			return err
		}
		m.fds = nil // the queue owns it
	}
	switch m.request {
	case reqSetVringCall:
		q.setCall(fd)
	case reqSetVringErr:
		q.setErr(fd)
	default:
		return q.setKick(fd)
	}
	return nil
}
