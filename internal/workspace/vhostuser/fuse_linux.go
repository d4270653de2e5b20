package vhostuser

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log"
	"log/slog"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// NewFUSEHandler returns a Handler that serves the file systems that newFS
// makes.
//
// Of the methods of [fuse.RawFileSystem], Init is not called. To read into and
// write from guest memory without a copy, Read returns a result that has
// Readv(dst [][]byte) (int, fuse.Status), as that of [fuse.ReadResultFd] has,
// and Writev is implemented.
func NewFUSEHandler(newFS NewFileSystem, log *slog.Logger) Handler {
	return &fuseHandler{newFS: newFS, log: slog.New(newRation(log.Handler()))}
}

type fuseHandler struct {
	newFS NewFileSystem
	log   *slog.Logger

	mu      sync.Mutex
	current *session
}

// session is a FUSE session; users counts the requests that it handles, plus
// one while it is current.
type session struct {
	server *fuse.ProtocolServer
	fs     fuse.RawFileSystem
	users  int
}

// buffers are the private copies of one request and its reply.
type buffers struct{ in, out []byte }

var bufferPool = sync.Pool{New: func() any { return new(buffers) }}

// keepBuffer is the size from which on a buffer is not kept for the next request.
const keepBuffer = 256 << 10

func (b *buffers) put() {
	if cap(b.in) > keepBuffer {
		b.in = nil
	}
	if cap(b.out) > keepBuffer {
		b.out = nil
	}
	bufferPool.Put(b)
}

// sized returns b with length n, whatever it contains.
func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, n+n/4)
	}
	return b[:n]
}

func (f *fuseHandler) Handle(in, out [][]byte) int {
	b := bufferPool.Get().(*buffers)
	defer b.put()
	total, room := length(in), length(out)
	if total < inHeaderSize || total > maxDirection {
		return 0 // not a FUSE request at all
	}
	var header [inHeaderSize]byte
	gather(header[:], in)
	h := parseInHeader(header[:])
	if h.opcode == opWrite {
		b.in = sized(b.in, min(total, writeInSize))
	} else {
		b.in = sized(b.in, total)
	}
	gather(b.in, in)
	copy(b.in, header[:]) // the guest may have changed it meanwhile
	op, errno := h.check(b.in, total)
	if errno == 0 && !op.noReply && room < outHeaderSize {
		errno = syscall.EINVAL
	}
	if errno != 0 {
		return f.fail(h, errno, op.noReply, out)
	}
	request := [][]byte{b.in}
	if h.opcode == opWrite {
		request = append(request, skip(in, writeInSize)...)
	}
	n, errno := f.do(h, request, out, b)
	if errno != 0 {
		return f.fail(h, errno, op.noReply, out)
	}
	return n
}

// do passes a request on. Only READ replies go straight into guest memory:
// their payload is nothing that anybody looks at.
func (f *fuseHandler) do(h inHeader, in, out [][]byte, b *buffers) (int, syscall.Errno) {
	s := f.acquire(h)
	if s == nil {
		return 0, syscall.ENOTCONN
	}
	defer f.release(s)
	if h.opcode == opRead {
		n, status := s.server.HandleRequest(in, out)
		return n, syscall.Errno(status)
	}
	b.out = sized(b.out, length(out))
	n, status := s.server.HandleRequest(in, [][]byte{b.out})
	if status != fuse.OK {
		return 0, syscall.Errno(status)
	}
	switch h.opcode {
	case opInit:
		f.begin(s, b.out[:n])
	case opDestroy:
		f.end(s)
	}
	return scatter(out, b.out[:n]), 0
}

// acquire returns the session of a request, with a use of it; for INIT it is a
// new one.
func (f *fuseHandler) acquire(h inHeader) *session {
	if h.opcode == opInit {
		return f.newSession()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != nil {
		f.current.users++
	}
	return f.current
}

func (f *fuseHandler) newSession() *session {
	fs, opts := f.newFS()
	o := fuse.MountOptions{}
	if opts != nil {
		o = *opts
	}
	if o.MaxWrite == 0 || o.MaxWrite > maxTransfer {
		o.MaxWrite = maxTransfer
	}
	// The layout of SETXATTR depends on this one.
	o.DisabledCapabilities |= fuse.CAP_SETXATTR_EXT
	o.ExtraCapabilities &^= fuse.CAP_SETXATTR_EXT
	o.Logger = log.New(lineLogger{f.log}, "", 0)
	o.PanicHandler = func(v any) fuse.Status {
		f.log.Error("a file operation failed badly; please report this", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		return fuse.EIO
	}
	return &session{server: fuse.NewProtocolServer(fs, &o), fs: fs, users: 1}
}

// begin makes s the current session if its INIT was answered well.
func (f *fuseHandler) begin(s *session, reply []byte) {
	if len(reply) < outHeaderSize || binary.NativeEndian.Uint32(reply[4:]) != 0 {
		return
	}
	f.mu.Lock()
	old := f.current
	f.current = s
	s.users++
	f.mu.Unlock()
	f.log.Debug("session begins")
	if old != nil {
		f.release(old)
	}
}

// end drops s if it is the current session.
func (f *fuseHandler) end(s *session) {
	f.mu.Lock()
	if s == nil || f.current != s {
		f.mu.Unlock()
		return
	}
	f.current = nil
	f.mu.Unlock()
	f.log.Debug("session ends")
	f.release(s)
}

func (f *fuseHandler) release(s *session) {
	f.mu.Lock()
	s.users--
	last := s.users == 0
	f.mu.Unlock()
	if last {
		s.fs.OnUnmount()
	}
}

func (f *fuseHandler) Close() {
	f.mu.Lock()
	s := f.current
	f.mu.Unlock()
	f.end(s)
}

func (f *fuseHandler) Reject(in, out [][]byte) int {
	var b [inHeaderSize]byte
	if gather(b[:], in) < inHeaderSize {
		return 0
	}
	h := parseInHeader(b[:])
	return f.fail(h, syscall.EIO, operations[h.opcode].noReply, out)
}

// fail answers with an error.
func (f *fuseHandler) fail(h inHeader, errno syscall.Errno, noReply bool, out [][]byte) int {
	if errno != syscall.ENOSYS {
		f.log.Debug("request refused", "opcode", h.opcode, "error", errno)
	}
	if noReply || length(out) < outHeaderSize {
		return 0
	}
	b := make([]byte, 0, outHeaderSize)
	b = binary.NativeEndian.AppendUint32(b, uint32(outHeaderSize))
	b = binary.NativeEndian.AppendUint32(b, uint32(-int32(errno)))
	b = binary.NativeEndian.AppendUint64(b, h.unique)
	return scatter(out, b)
}

func length(segs [][]byte) int {
	n := 0
	for _, s := range segs {
		n += len(s)
	}
	return n
}

// gather fills dst from the segments and returns how much there was.
func gather(dst []byte, segs [][]byte) int {
	n := 0
	for _, s := range segs {
		if n == len(dst) {
			break
		}
		n += copy(dst[n:], s)
	}
	return n
}

// scatter is the opposite of gather.
func scatter(segs [][]byte, src []byte) int {
	n := 0
	for _, s := range segs {
		if n == len(src) {
			break
		}
		n += copy(s, src[n:])
	}
	return n
}

// skip returns the segments after their first n bytes.
func skip(segs [][]byte, n int) [][]byte {
	for i, s := range segs {
		if n < len(s) {
			return append([][]byte{s[n:]}, segs[i+1:]...)
		}
		n -= len(s)
	}
	return nil
}

// lineLogger passes what go-fuse logs on to slog.
type lineLogger struct{ log *slog.Logger }

func (l lineLogger) Write(p []byte) (int, error) {
	l.log.Debug("go-fuse", "message", string(bytes.TrimRight(p, "\n")))
	return len(p), nil
}
