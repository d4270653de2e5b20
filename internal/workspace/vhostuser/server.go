package vhostuser

import (
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// StopTimeout is how long a machine that is paused, reset or powered off waits
// for requests that are being worked on.
const StopTimeout = 10 * time.Second

// Handler works on the FUSE requests of one front end.
type Handler interface {
	// Handle works on one request and returns the number of bytes that it
	// wrote. in is what the guest sends and out where the reply goes, in
	// segments; both are guest memory, which the guest can change at any
	// moment, and may not be kept. Handle is called concurrently.
	Handle(in, out [][]byte) int
	// Reject answers a request with EIO instead.
	Reject(in, out [][]byte) int
	// Close is called once, after the last of the other calls has returned.
	Close()
}

// NewFileSystem makes the file system of one FUSE session. A session begins
// when the guest mounts, and ends when it unmounts, mounts again without (it
// was reset), or is gone; OnUnmount is then called after the last request.
type NewFileSystem func() (fuse.RawFileSystem, *fuse.MountOptions)
