// Package vhostuser is a vhost-user-fs back end: it gives a virtual machine a
// FUSE file system over virtio, without privileges and in this process.
//
// Start with [Listen]: the server it returns owns a unix socket, to which the
// monitor (QEMU's vhost-user-fs-pci) connects as the front end. [Server.Serve]
// accepts front ends, one after another or, after a monitor was replaced, side
// by side. Each gets a [Handler] of its own, usually from [NewFUSEHandler],
// which drives a [fuse.RawFileSystem] through go-fuse's ProtocolServer.
//
// The parts, from the outside in: the server accepts, frontend and dispatch
// speak the vhost-user protocol, memory maps the guest's memory, queue starts
// and stops a virtqueue, run has its workers, poller is what they sleep on, ring
// reads the split ring and its descriptors, fuse and request turn a chain into
// one FUSE request.
//
// # Promises
//
// The front end never waits for us without a bound: GET_VRING_BASE, which the
// monitor sends when the machine is paused, reset or powered off, waits for
// requests in flight for [StopTimeout] at most. A request that takes longer
// loses its access to guest memory and is answered with EIO if the machine
// goes on.
//
// # Security model
//
// The guest is hostile, and the monitor may have been taken over by it. All
// that they can send is checked: lengths, addresses and ring indexes before
// use; descriptors, indirect tables, FUSE headers, arguments and names are
// copied out of guest memory before they are looked at. Only the payload of
// READ and WRITE stays there, because nothing interprets it. A chain is at most
// one request of 1 MiB; the number of requests worked on at once, and with it
// the memory used, is bounded. Mapped memory that the monitor truncates causes
// an error of that queue, not the death of this process. Log lines that the
// guest can cause are rationed.
//
// What the file system does with names and handles is its own business; this
// package only guarantees that a name is one path component: 1 to 255 bytes,
// no slash, no NUL, neither "." nor "..".
package vhostuser
