package vhostuser

import (
	"bytes"
	"encoding/binary"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// memFS is a file system of one file, which has the node id 2, and which
// believes whatever it is told.
type memFS struct {
	fuse.RawFileSystem

	mu        sync.Mutex
	data      []byte
	names     []string
	unmounted chan struct{}
	hold      chan struct{} // GETATTR waits for it, if not nil
	held      chan struct{}
}

func newMemFS() *memFS {
	return &memFS{RawFileSystem: fuse.NewDefaultRawFileSystem(), unmounted: make(chan struct{})}
}

func (m *memFS) OnUnmount() { close(m.unmounted) }

func (m *memFS) note(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names = append(m.names, name)
}

func (m *memFS) Lookup(_ <-chan struct{}, _ *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	m.note(name)
	out.NodeId, out.Mode = 2, fuse.S_IFREG|0o644
	return fuse.OK
}

func (m *memFS) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if in.NodeId == 666 {
		panic("a bug")
	}
	if m.hold != nil {
		m.held <- struct{}{}
		<-m.hold
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out.Ino, out.Size = in.NodeId, uint64(len(m.data))
	return fuse.OK
}

func (m *memFS) Symlink(_ <-chan struct{}, _ *fuse.InHeader, target, name string, out *fuse.EntryOut) fuse.Status {
	m.note(name)
	return fuse.OK
}

func (m *memFS) Rename(_ <-chan struct{}, _ *fuse.RenameIn, from, to string) fuse.Status {
	m.note(from)
	m.note(to)
	return fuse.OK
}

func (m *memFS) Read(_ <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data := m.data[min(uint64(len(m.data)), in.Offset):]
	return fuse.ReadResultData(data[:min(len(data), int(in.Size))]), fuse.OK
}

func (m *memFS) Writev(_ <-chan struct{}, in *fuse.WriteIn, data [][]byte) (uint32, fuse.Status) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = make([]byte, length(data))
	return uint32(gather(m.data, data)), fuse.OK
}

func (m *memFS) ReadDirPlus(_ <-chan struct{}, _ *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	for out.AddDirLookupEntry(fuse.DirEntry{Name: "entry", Mode: fuse.S_IFREG, Ino: 2}) != nil {
	}
	return fuse.OK
}

func (m *memFS) GetXAttr(_ <-chan struct{}, _ *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	return uint32(copy(dest, "value")), fuse.OK
}

func (m *memFS) Readlink(_ <-chan struct{}, _ *fuse.InHeader) ([]byte, fuse.Status) {
	return []byte("target"), fuse.OK
}

// message builds a FUSE request; args are integers of the protocol's width, or
// strings and bytes as they are.
func fuseRequest(opcode uint32, node uint64, args ...any) []byte {
	b := make([]byte, inHeaderSize)
	binary.NativeEndian.PutUint32(b[4:], opcode)
	binary.NativeEndian.PutUint64(b[8:], 77)
	binary.NativeEndian.PutUint64(b[16:], node)
	for _, a := range args {
		switch a := a.(type) {
		case uint32:
			b = binary.NativeEndian.AppendUint32(b, a)
		case uint64:
			b = binary.NativeEndian.AppendUint64(b, a)
		case string:
			b = append(b, a...)
		case []byte:
			b = append(b, a...)
		}
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func initRequest() []byte {
	return fuseRequest(opInit, 0, uint32(7), uint32(38), uint32(128<<10), ^uint32(0), uint32(0), make([]byte, 44))
}

func readRequest(opcode uint32, size uint32) []byte {
	return fuseRequest(opcode, 2, uint64(0), uint64(0), size, make([]byte, 20))
}

func writeRequest(data []byte) []byte {
	return fuseRequest(opWrite, 2, uint64(0), uint64(0), uint32(len(data)), make([]byte, 20), data)
}

// call passes a request through h in segments of the given size.
func call(t testing.TB, h Handler, in []byte, room, segment int) (errno syscall.Errno, body []byte) {
	t.Helper()
	out := make([]byte, room)
	n := h.Handle(split(in, segment), split(out, segment))
	if n == 0 {
		return 0, nil
	}
	if n < outHeaderSize || int(binary.NativeEndian.Uint32(out)) != n {
		t.Fatalf("%d bytes written, the header says %d", n, binary.NativeEndian.Uint32(out))
	}
	if unique := binary.NativeEndian.Uint64(out[8:]); unique != 77 {
		t.Fatalf("reply to %d", unique)
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(out[4:]))), out[outHeaderSize:n]
}

func split(b []byte, n int) [][]byte {
	var segs [][]byte
	for len(b) > n {
		segs = append(segs, b[:n:n])
		b = b[n:]
	}
	return append(segs, b)
}

func mounted(t testing.TB) (*memFS, Handler) {
	t.Helper()
	var m *memFS // of the last session
	h := NewFUSEHandler(func() (fuse.RawFileSystem, *fuse.MountOptions) {
		m = newMemFS()
		return m, nil
	}, quiet())
	if errno, body := call(t, h, initRequest(), 4096, 4096); errno != 0 || binary.NativeEndian.Uint32(body[20:]) != maxTransfer {
		t.Fatalf("INIT: %v %v", errno, body)
	}
	return m, h
}

func TestFUSERequests(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, segment := range []int{1, 7, 4096, 4 << 20} {
		m, h := mounted(t)
		if segment > 1 { // a million segments of one byte are no fun
			if errno, body := call(t, h, writeRequest(big), 24, segment); errno != 0 || binary.NativeEndian.Uint32(body) != uint32(len(big)) {
				t.Errorf("WRITE: %v %v", errno, body)
			}
			if errno, body := call(t, h, readRequest(opRead, uint32(len(big))), 16+len(big), segment); errno != 0 || !bytes.Equal(body, big) {
				t.Errorf("READ: %v, %d bytes", errno, len(body))
			}
		}
		if errno, body := call(t, h, readRequest(opReaddirplus, 4096), 16+4096, segment); errno != 0 || len(body) == 0 {
			t.Errorf("READDIRPLUS: %v", errno)
		}
		if errno, body := call(t, h, fuseRequest(opGetxattr, 2, uint32(16), uint32(0), "user.x\x00"), 32, segment); errno != 0 || string(body) != "value" {
			t.Errorf("GETXATTR: %v %q", errno, body)
		}
		if errno, body := call(t, h, fuseRequest(opReadlink, 2), 4096, segment); errno != 0 || string(body) != "target" {
			t.Errorf("READLINK: %v %q", errno, body)
		}
		if errno, _ := call(t, h, fuseRequest(opRename2, 1, uint64(1), uint64(0), "a\x00b\x00"), 16, segment); errno != 0 {
			t.Errorf("RENAME2: %v", errno)
		}
		if got := strings.Join(m.names, " "); got != "a b" {
			t.Errorf("names %q", got)
		}
	}
}

func TestFUSERefusals(t *testing.T) {
	badLength := fuseRequest(opReadlink, 2)
	badLength[0]++
	extended := fuseRequest(opLookup, 1, "x\x00", make([]byte, 8))
	extended[36] = 1
	wrongSize := writeRequest([]byte("data"))
	wrongSize[inHeaderSize+16] = 200
	for _, tc := range []struct {
		name string
		in   []byte
		room int
		want syscall.Errno
	}{
		{"unknown opcode", fuseRequest(4096, 1), 64, syscall.ENOSYS},
		{"notification", fuseRequest(101, 1), 64, syscall.ENOSYS},
		{"poll", fuseRequest(40, 1, make([]byte, 24)), 64, syscall.ENOSYS},
		{"length differs", badLength, 4096, syscall.EINVAL},
		{"arguments too short", fuseRequest(opRead, 2), 64, syscall.EINVAL},
		{"arguments too long", fuseRequest(opReadlink, 2, "x"), 64, syscall.EINVAL},
		{"extension", extended, 256, syscall.EINVAL},
		{"write size differs", wrongSize, 64, syscall.EINVAL},
		{"empty name", fuseRequest(opLookup, 1, "\x00"), 256, syscall.ENOENT},
		{"no NUL", fuseRequest(opLookup, 1, "x"), 256, syscall.EINVAL},
		{"two names", fuseRequest(opLookup, 1, "x\x00y\x00"), 256, syscall.EINVAL},
		{"slash", fuseRequest(opLookup, 1, "a/b\x00"), 256, syscall.EINVAL},
		{"dot", fuseRequest(opLookup, 1, ".\x00"), 256, syscall.EINVAL},
		{"dot dot", fuseRequest(opLookup, 1, "..\x00"), 256, syscall.EINVAL},
		{"dot dot as a new name", fuseRequest(opRename, 1, uint64(1), "a\x00..\x00"), 256, syscall.EINVAL},
		{"slash in the name of a link", fuseRequest(opSymlink, 1, "a/b\x00t\x00"), 256, syscall.EINVAL},
		{"one name of two", fuseRequest(opRename, 1, uint64(1), "a\x00"), 256, syscall.EINVAL},
		{"long name", fuseRequest(opLookup, 1, strings.Repeat("x", 256)+"\x00"), 256, syscall.ENAMETOOLONG},
		{"long target", fuseRequest(opSymlink, 1, "a\x00"+strings.Repeat("x", 4096)+"\x00"), 256, syscall.ENAMETOOLONG},
		{"go-fuse's own file", fuseRequest(opLookup, 1, pollHackName+"\x00"), 256, syscall.ENOENT},
		{"go-fuse's own node", fuseRequest(opGetattr, pollHackNode, make([]byte, 16)), 256, syscall.ESTALE},
		{"read without room", readRequest(opRead, 4096), 64, syscall.EIO},
		{"read of 4 GiB", readRequest(opRead, ^uint32(0)), 4096, syscall.EIO},
		{"readdir of 4 GiB", readRequest(opReaddirplus, ^uint32(0)), 4096, syscall.EIO},
		{"old protocol", fuseRequest(opInit, 0, uint32(6), uint32(38), uint64(0), make([]byte, 48)), 256, syscall.EPROTO},
		{"a panic of the file system", fuseRequest(opGetattr, 666, make([]byte, 16)), 256, syscall.EIO},
		{"longest name", fuseRequest(opLookup, 1, strings.Repeat("x", 255)+"\x00"), 256, 0},
		{"link to anything", fuseRequest(opSymlink, 1, "a\x00/../b\x00"), 256, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, h := mounted(t)
			if errno, _ := call(t, h, tc.in, tc.room, 4096); errno != tc.want {
				t.Errorf("got %v, want %v", errno, tc.want)
			}
			if n := h.Handle([][]byte{tc.in}, nil); n != 0 {
				t.Errorf("%d bytes written into no room", n)
			}
		})
	}
	_, h := mounted(t)
	if n := h.Handle([][]byte{make([]byte, 39)}, [][]byte{make([]byte, 64)}); n != 0 {
		t.Errorf("a message without a header was answered")
	}
}

func TestSessions(t *testing.T) {
	var all []*memFS
	h := NewFUSEHandler(func() (fuse.RawFileSystem, *fuse.MountOptions) {
		all = append(all, newMemFS())
		return all[len(all)-1], nil
	}, quiet())
	getattr := fuseRequest(opGetattr, 1, make([]byte, 16))
	if errno, _ := call(t, h, getattr, 256, 4096); errno != syscall.ENOTCONN {
		t.Errorf("before INIT: %v", errno)
	}
	call(t, h, initRequest(), 256, 4096)
	first := all[0]
	first.hold, first.held = make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { call(t, h, getattr, 256, 4096) })
	<-first.held

	call(t, h, initRequest(), 256, 4096) // the guest booted again
	select {
	case <-first.unmounted:
		t.Error("a session ended with a request inside")
	default:
	}
	close(first.hold)
	wg.Wait()
	<-first.unmounted
	if errno, _ := call(t, h, getattr, 256, 4096); errno != 0 {
		t.Errorf("second session: %v", errno)
	}
	call(t, h, fuseRequest(opDestroy, 0), 16, 4096)
	<-all[1].unmounted
	if errno, _ := call(t, h, getattr, 256, 4096); errno != syscall.ENOTCONN {
		t.Errorf("after DESTROY: %v", errno)
	}
	call(t, h, initRequest(), 256, 4096)
	h.Close()
	<-all[2].unmounted
}

func TestReject(t *testing.T) {
	_, h := mounted(t)
	out := make([]byte, 64)
	if n := h.Reject([][]byte{fuseRequest(opRead, 2)}, [][]byte{out}); n != outHeaderSize ||
		int32(binary.NativeEndian.Uint32(out[4:])) != -int32(syscall.EIO) {
		t.Errorf("%d bytes: %v", n, out[:16])
	}
	if n := h.Reject([][]byte{fuseRequest(opForget, 2)}, [][]byte{out}); n != 0 {
		t.Error("FORGET was answered")
	}
}
