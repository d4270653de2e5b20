package vhostuser

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// FuzzChain reads a ring that is all the guest's.
func FuzzChain(f *testing.F) {
	f.Add([]byte{0, 0x10, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, descNext, 0, 1, 0}, uint16(0))
	f.Add([]byte{0, 0x10, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, descIndirect, 0, 0, 0}, uint16(0))
	f.Add(bytes.Repeat([]byte{0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, descNext, 0, 0, 0}, 4), uint16(3))
	f.Fuzz(func(t *testing.T, b []byte, head uint16) {
		const base = 0x1000
		// Two regions, with a border that a buffer can cross.
		mem := make([]byte, 16<<10)
		copy(mem, b)
		m := &memory{regions: []region{
			{memRegion: memRegion{guest: base, size: 4096, user: 0}, data: mem[:4096]},
			{memRegion: memRegion{guest: base + 4096, size: 12 << 10, user: 4096}, data: mem[4096:]},
		}}
		if uintptr(unsafe.Pointer(&mem[0]))%16 != 0 {
			t.Skip()
		}
		r, err := newRing(m, 64, vringAddr{desc: 0, avail: 1024, used: 2048}, 0)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := r.pending(); err == nil && n > 0 {
			_, _ = r.next()
		}
		var c chain
		if err := r.chain(&c, m, head, true); err != nil {
			return
		}
		if len(c.in)+len(c.out) > maxSegments || c.inLen > maxDirection || c.outLen > maxDirection ||
			length(c.in) != c.inLen || length(c.out) != c.outLen {
			t.Fatalf("%d and %d segments, %d and %d bytes", len(c.in), len(c.out), c.inLen, c.outLen)
		}
		start, end := uintptr(unsafe.Pointer(&mem[0])), uintptr(unsafe.Pointer(&mem[0]))+uintptr(len(mem))
		for _, s := range append(c.in, c.out...) {
			if at := uintptr(unsafe.Pointer(&s[0])); at < start || at+uintptr(len(s)) > end {
				t.Fatal("a segment is outside of memory")
			}
		}
		r.put(head, 1)
	})
}

// FuzzMessages talks to a server: each record of the input is a request number,
// a byte of flags with the number of descriptors, a length and the payload.
func FuzzMessages(f *testing.F) {
	record := func(r request, fds byte, payload []byte) []byte {
		return append([]byte{byte(r), fds, byte(len(payload))}, payload...)
	}
	state := vringState{1, 64}.append(nil)
	var boot []byte
	for _, r := range [][]byte{
		record(reqSetFeatures, 0, appendU64(nil, supportedFeatures)),
		record(reqSetProtocolFeatures, 0, appendU64(nil, supportedProtocolFeatures)),
		record(reqSetMemTable, 1, memTable(memRegion{guestBase, 1 << 20, userBase, 0})),
		record(reqSetVringNum, 0, state),
		record(reqSetVringAddr, 0, (&driver{index: 1}).address()),
		record(reqSetVringKick, 2, appendU64(nil, 1)),
		record(reqSetVringCall, 2, appendU64(nil, 1)),
		record(reqSetVringEnable, 0, state),
		record(reqGetVringBase, 0, state),
	} {
		f.Add(r)
		boot = append(boot, r...)
	}
	f.Add(boot)
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := socketPair(t)
		e := newEcho()
		served := make(chan error, 1)
		front := newFrontend(theirs, e, quiet(), time.Millisecond)
		go func() { served <- front.serve(t.Context()) }()
		mem, err := unix.MemfdCreate("fuzz", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(mem)
		_ = unix.Ftruncate(mem, 1<<20)
		event, err := unix.Eventfd(1, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(event)
		go func() { // replies don't matter, but must be taken
			_, _ = io.Copy(io.Discard, ours)
		}()
		for len(b) >= 3 {
			n := min(int(b[2]), len(b)-3)
			var oob []byte
			switch b[1] & 3 {
			case 1:
				oob = unix.UnixRights(mem)
			case 2:
				oob = unix.UnixRights(event)
			case 3:
				oob = unix.UnixRights(event, mem)
			}
			msg := binary.LittleEndian.AppendUint32(nil, uint32(b[0]))
			msg = binary.LittleEndian.AppendUint32(msg, version|uint32(b[1]&flagNeedAck))
			msg = binary.LittleEndian.AppendUint32(msg, uint32(b[2]))
			if _, _, err := ours.WriteMsgUnix(append(msg, b[3:3+n]...), oob, nil); err != nil {
				break
			}
			b = b[3+n:]
		}
		_ = ours.CloseWrite()
		<-served
		<-e.closed
		_ = ours.Close()
	})
}

func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]*net.UnixConn
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(file)
		_ = file.Close()
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = c.(*net.UnixConn)
	}
	return conns[0], conns[1]
}

// FuzzFUSE sends requests to go-fuse through the checks in front of it.
func FuzzFUSE(f *testing.F) {
	f.Add(initRequest(), 256, 4096)
	f.Add(writeRequest([]byte("data")), 64, 16)
	f.Add(readRequest(opRead, 4096), 4112, 1000)
	f.Add(readRequest(opReaddirplus, 4096), 4112, 1000)
	f.Add(fuseRequest(opLookup, 1, "name\x00"), 256, 4096)
	f.Add(fuseRequest(opSetxattr, 1, uint64(0), "user.x\x00value"), 256, 4096)
	f.Add(fuseRequest(opRename2, 1, uint64(1), uint64(0), "a\x00b\x00"), 16, 4096)
	f.Add(fuseRequest(opBatchForget, 0, uint32(5), uint32(0), make([]byte, 32)), 0, 4096)
	f.Add(fuseRequest(opIoctl, 2, make([]byte, 32), "x"), 256, 4096)
	for op, o := range operations {
		f.Add(fuseRequest(op, 2, make([]byte, o.size-inHeaderSize), "x\x00y\x00"), 8192, 100)
	}
	f.Fuzz(func(t *testing.T, in []byte, room, segment int) {
		if room < 0 || room > 2<<20 || segment < 1 {
			t.Skip()
		}
		_, h := mounted(t)
		if len(in) >= 4 { // most inputs get past the first check
			binary.NativeEndian.PutUint32(in, uint32(len(in)))
		}
		out := make([]byte, room)
		if n := h.Handle(split(in, segment), split(out, segment)); n > room {
			t.Fatalf("%d bytes written into %d", n, room)
		}
		h.Close()
	})
}
