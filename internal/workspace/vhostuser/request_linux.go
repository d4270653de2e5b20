package vhostuser

import (
	"bytes"
	"encoding/binary"
	"syscall"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// FUSE opcodes, from the kernel's include/uapi/linux/fuse.h.
const (
	opLookup        = 1
	opForget        = 2
	opGetattr       = 3
	opSetattr       = 4
	opReadlink      = 5
	opSymlink       = 6
	opMknod         = 8
	opMkdir         = 9
	opUnlink        = 10
	opRmdir         = 11
	opRename        = 12
	opLink          = 13
	opOpen          = 14
	opRead          = 15
	opWrite         = 16
	opStatfs        = 17
	opRelease       = 18
	opFsync         = 20
	opSetxattr      = 21
	opGetxattr      = 22
	opListxattr     = 23
	opRemovexattr   = 24
	opFlush         = 25
	opInit          = 26
	opOpendir       = 27
	opReaddir       = 28
	opReleasedir    = 29
	opFsyncdir      = 30
	opGetlk         = 31
	opSetlk         = 32
	opSetlkw        = 33
	opAccess        = 34
	opCreate        = 35
	opInterrupt     = 36
	opDestroy       = 38
	opIoctl         = 39
	opBatchForget   = 42
	opFallocate     = 43
	opReaddirplus   = 44
	opRename2       = 45
	opLseek         = 46
	opCopyFileRange = 47
	opTmpfile       = 51
	opStatx         = 52
)

const (
	inHeaderSize  = int(unsafe.Sizeof(fuse.InHeader{}))
	outHeaderSize = int(unsafe.Sizeof(fuse.OutHeader{}))
	writeInSize   = int(unsafe.Sizeof(fuse.WriteIn{}))

	maxName   = 255  // NAME_MAX
	maxTarget = 4095 // PATH_MAX without the NUL
	fuseMajor = 7
	fuseMinor = 31 // Linux 5.4, the first with virtiofs
)

// pollHack is a name, and a node id, that go-fuse answers by itself.
const (
	pollHackName = ".go-fuse-epoll-hack"
	pollHackNode = ^uint64(0)
)

// payload is what follows the fixed part of a request.
type payload int

const (
	noPayload   payload = iota
	oneName             // a path component
	twoNames            // two path components
	nameTarget          // a path component and the target of a symbolic link
	xattrName           // the name of an attribute
	xattrValue          // the name of an attribute and its value
	ignoredName         // a name that means nothing
	anyPayload          // whatever the opcode wants
)

type operation struct {
	size    int // of header and arguments
	payload payload
	noReply bool
}

// operations are the requests that reach the file system. The others get
// ENOSYS, after which the guest does not send them again.
var operations = map[uint32]operation{
	opLookup:        {inHeaderSize, oneName, false},
	opForget:        {int(unsafe.Sizeof(fuse.ForgetIn{})), noPayload, true},
	opGetattr:       {int(unsafe.Sizeof(fuse.GetAttrIn{})), noPayload, false},
	opSetattr:       {int(unsafe.Sizeof(fuse.SetAttrIn{})), noPayload, false},
	opReadlink:      {inHeaderSize, noPayload, false},
	opSymlink:       {inHeaderSize, nameTarget, false},
	opMknod:         {int(unsafe.Sizeof(fuse.MknodIn{})), oneName, false},
	opMkdir:         {int(unsafe.Sizeof(fuse.MkdirIn{})), oneName, false},
	opUnlink:        {inHeaderSize, oneName, false},
	opRmdir:         {inHeaderSize, oneName, false},
	opRename:        {inHeaderSize + 8, twoNames, false},
	opLink:          {int(unsafe.Sizeof(fuse.LinkIn{})), oneName, false},
	opOpen:          {int(unsafe.Sizeof(fuse.OpenIn{})), noPayload, false},
	opRead:          {int(unsafe.Sizeof(fuse.ReadIn{})), noPayload, false},
	opWrite:         {writeInSize, anyPayload, false},
	opStatfs:        {inHeaderSize, noPayload, false},
	opRelease:       {int(unsafe.Sizeof(fuse.ReleaseIn{})), noPayload, false},
	opFsync:         {int(unsafe.Sizeof(fuse.FsyncIn{})), noPayload, false},
	opSetxattr:      {inHeaderSize + 8, xattrValue, false},
	opGetxattr:      {int(unsafe.Sizeof(fuse.GetXAttrIn{})), xattrName, false},
	opListxattr:     {int(unsafe.Sizeof(fuse.GetXAttrIn{})), noPayload, false},
	opRemovexattr:   {inHeaderSize, xattrName, false},
	opFlush:         {int(unsafe.Sizeof(fuse.FlushIn{})), noPayload, false},
	opInit:          {inHeaderSize + 16, anyPayload, false},
	opOpendir:       {int(unsafe.Sizeof(fuse.OpenIn{})), noPayload, false},
	opReaddir:       {int(unsafe.Sizeof(fuse.ReadIn{})), noPayload, false},
	opReleasedir:    {int(unsafe.Sizeof(fuse.ReleaseIn{})), noPayload, false},
	opFsyncdir:      {int(unsafe.Sizeof(fuse.FsyncIn{})), noPayload, false},
	opGetlk:         {int(unsafe.Sizeof(fuse.LkIn{})), noPayload, false},
	opSetlk:         {int(unsafe.Sizeof(fuse.LkIn{})), noPayload, false},
	opSetlkw:        {int(unsafe.Sizeof(fuse.LkIn{})), noPayload, false},
	opAccess:        {int(unsafe.Sizeof(fuse.AccessIn{})), noPayload, false},
	opCreate:        {int(unsafe.Sizeof(fuse.CreateIn{})), oneName, false},
	opInterrupt:     {int(unsafe.Sizeof(fuse.InterruptIn{})), noPayload, false},
	opDestroy:       {inHeaderSize, noPayload, false},
	opIoctl:         {int(unsafe.Sizeof(fuse.IoctlIn{})), anyPayload, false},
	opBatchForget:   {inHeaderSize + 8, anyPayload, true},
	opFallocate:     {int(unsafe.Sizeof(fuse.FallocateIn{})), noPayload, false},
	opReaddirplus:   {int(unsafe.Sizeof(fuse.ReadIn{})), noPayload, false},
	opRename2:       {int(unsafe.Sizeof(fuse.RenameIn{})), twoNames, false},
	opLseek:         {int(unsafe.Sizeof(fuse.LseekIn{})), noPayload, false},
	opCopyFileRange: {int(unsafe.Sizeof(fuse.CopyFileRangeIn{})), noPayload, false},
	opTmpfile:       {int(unsafe.Sizeof(fuse.CreateIn{})), ignoredName, false},
	opStatx:         {int(unsafe.Sizeof(fuse.StatxIn{})), noPayload, false},
}

// inHeader is the start of every request.
type inHeader struct {
	length, opcode uint32
	unique, node   uint64
	extensions     uint16
}

func parseInHeader(b []byte) inHeader {
	return inHeader{
		length:     binary.NativeEndian.Uint32(b),
		opcode:     binary.NativeEndian.Uint32(b[4:]),
		unique:     binary.NativeEndian.Uint64(b[8:]),
		node:       binary.NativeEndian.Uint64(b[16:]),
		extensions: binary.NativeEndian.Uint16(b[36:]),
	}
}

// check says what is wrong with a request of total bytes, so that nothing else
// reaches go-fuse. req is a private copy of it; of a WRITE, it may end after
// the arguments.
func (h inHeader) check(req []byte, total int) (operation, syscall.Errno) {
	op, known := operations[h.opcode]
	switch {
	case !known:
		return op, syscall.ENOSYS
	case int64(h.length) != int64(total) || total < op.size:
		return op, syscall.EINVAL
	case h.extensions != 0: // none were negotiated
		return op, syscall.EINVAL
	case h.node == pollHackNode:
		return op, syscall.ESTALE
	}
	switch h.opcode {
	case opInit:
		return op, checkInit(req[inHeaderSize:])
	case opWrite:
		if size := binary.NativeEndian.Uint32(req[inHeaderSize+16:]); int64(size) != int64(total-op.size) || size > maxTransfer {
			return op, syscall.EINVAL
		}
		return op, 0
	}
	if errno := checkPayload(op.payload, req[op.size:]); errno != 0 {
		return op, errno
	}
	if h.opcode == opLookup && h.node == fuse.FUSE_ROOT_ID && string(req[op.size:]) == pollHackName+"\x00" {
		return op, syscall.ENOENT
	}
	return op, 0
}

// checkInit accepts the protocol versions of kernels that have virtiofs.
func checkInit(args []byte) syscall.Errno {
	if binary.NativeEndian.Uint32(args) != fuseMajor || binary.NativeEndian.Uint32(args[4:]) < fuseMinor {
		return syscall.EPROTO
	}
	return 0
}

func checkPayload(p payload, b []byte) syscall.Errno {
	var errno syscall.Errno
	switch p {
	case noPayload:
		if len(b) != 0 {
			return syscall.EINVAL
		}
		return 0
	case oneName:
		b, errno = takeName(b)
	case twoNames:
		if b, errno = takeName(b); errno == 0 {
			b, errno = takeName(b)
		}
	case nameTarget:
		if b, errno = takeName(b); errno == 0 {
			b, errno = takeString(b, maxTarget)
		}
	case xattrName:
		b, errno = takeString(b, maxName)
	case xattrValue:
		_, errno = takeString(b, maxName)
		b = nil // a value may have any bytes
	default:
		b = nil
	}
	if errno == 0 && len(b) != 0 {
		errno = syscall.EINVAL
	}
	return errno
}

// takeString checks for a string with 1 to limit bytes and its NUL, and returns
// what follows.
func takeString(b []byte, limit int) ([]byte, syscall.Errno) {
	n := bytes.IndexByte(b, 0)
	switch {
	case n < 0:
		return nil, syscall.EINVAL
	case n == 0:
		return nil, syscall.ENOENT
	case n > limit:
		return nil, syscall.ENAMETOOLONG
	}
	return b[n+1:], 0
}

// takeName is takeString for one component of a path.
func takeName(b []byte) ([]byte, syscall.Errno) {
	rest, errno := takeString(b, maxName)
	if errno != 0 {
		return nil, errno
	}
	name := b[:len(b)-len(rest)-1]
	if bytes.IndexByte(name, '/') >= 0 || string(name) == "." || string(name) == ".." {
		return nil, syscall.EINVAL
	}
	return rest, 0
}
