package vhostuser

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Numbers of this file are from QEMU's docs/interop/vhost-user.rst.

type request uint32

const (
	reqGetFeatures         request = 1
	reqSetFeatures         request = 2
	reqSetOwner            request = 3
	reqResetOwner          request = 4
	reqSetMemTable         request = 5
	reqSetVringNum         request = 8
	reqSetVringAddr        request = 9
	reqSetVringBase        request = 10
	reqGetVringBase        request = 11
	reqSetVringKick        request = 12
	reqSetVringCall        request = 13
	reqSetVringErr         request = 14
	reqGetProtocolFeatures request = 15
	reqSetProtocolFeatures request = 16
	reqGetQueueNum         request = 17
	reqSetVringEnable      request = 18
)

const (
	headerSize = 12
	// maxPayload is beyond every message we accept; the largest is
	// SET_MEM_TABLE with 8 regions, 264 bytes.
	maxPayload = 4096
	maxFDs     = 8
	maxRegions = 8

	versionMask = 0x3
	version     = 0x1
	flagReply   = 1 << 2
	flagNeedAck = 1 << 3

	vringIndexMask = 0xff
	vringNoFD      = 1 << 8
)

// Virtio feature bits.
const (
	featureIndirect         = 1 << 28
	featureProtocolFeatures = 1 << 30
	featureVersion1         = 1 << 32

	supportedFeatures = featureIndirect | featureProtocolFeatures | featureVersion1
)

// vhost-user protocol feature bits.
const (
	protocolMQ       = 1 << 0
	protocolReplyAck = 1 << 3

	supportedProtocolFeatures = protocolMQ | protocolReplyAck
)

// header precedes every message.
type header struct {
	request request
	flags   uint32
	size    uint32
}

func parseHeader(b []byte) (header, error) {
	h := header{
		request: request(binary.LittleEndian.Uint32(b)),
		flags:   binary.LittleEndian.Uint32(b[4:]),
		size:    binary.LittleEndian.Uint32(b[8:]),
	}
	if h.flags&versionMask != version {
		return h, fmt.Errorf("vhost-user message %d has version %d, want %d", h.request, h.flags&versionMask, version)
	}
	if h.size > maxPayload {
		return h, fmt.Errorf("vhost-user message %d has %d bytes, more than %d", h.request, h.size, maxPayload)
	}
	return h, nil
}

func appendReply(b []byte, r request, payload []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(r))
	b = binary.LittleEndian.AppendUint32(b, version|flagReply)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	return append(b, payload...)
}

func appendU64(b []byte, v uint64) []byte { return binary.LittleEndian.AppendUint64(b, v) }

var errPayloadSize = errors.New("payload has the wrong size")

func parseU64(b []byte) (uint64, error) {
	if len(b) != 8 {
		return 0, errPayloadSize
	}
	return binary.LittleEndian.Uint64(b), nil
}

// vringState is the payload of SET_VRING_NUM, _BASE, _ENABLE and GET_VRING_BASE.
type vringState struct{ index, num uint32 }

func parseVringState(b []byte) (vringState, error) {
	if len(b) != 8 {
		return vringState{}, errPayloadSize
	}
	return vringState{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])}, nil
}

func (s vringState) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, s.index)
	return binary.LittleEndian.AppendUint32(b, s.num)
}

// vringAddr says where a ring's parts are, as addresses of the front end's
// own address space.
type vringAddr struct {
	index, flags      uint32
	desc, used, avail uint64
}

func parseVringAddr(b []byte) (vringAddr, error) {
	if len(b) != 40 {
		return vringAddr{}, errPayloadSize
	}
	return vringAddr{
		index: binary.LittleEndian.Uint32(b),
		flags: binary.LittleEndian.Uint32(b[4:]),
		desc:  binary.LittleEndian.Uint64(b[8:]),
		used:  binary.LittleEndian.Uint64(b[16:]),
		avail: binary.LittleEndian.Uint64(b[24:]),
	}, nil
}

// memRegion is one piece of guest memory.
type memRegion struct {
	guest  uint64 // address in the guest
	size   uint64
	user   uint64 // address in the front end
	offset uint64 // in the file that comes with the message
}

const memRegionSize = 32

func parseMemTable(b []byte) ([]memRegion, error) {
	if len(b) < 8 {
		return nil, errPayloadSize
	}
	n := binary.LittleEndian.Uint32(b)
	if n > maxRegions {
		return nil, fmt.Errorf("%d memory regions, at most %d are supported", n, maxRegions)
	}
	b = b[8:]
	if len(b) != int(n)*memRegionSize {
		return nil, errPayloadSize
	}
	regions := make([]memRegion, n)
	for i := range regions {
		regions[i] = memRegion{
			guest:  binary.LittleEndian.Uint64(b),
			size:   binary.LittleEndian.Uint64(b[8:]),
			user:   binary.LittleEndian.Uint64(b[16:]),
			offset: binary.LittleEndian.Uint64(b[24:]),
		}
		b = b[memRegionSize:]
	}
	return regions, nil
}
