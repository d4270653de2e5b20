// Package workspace serves host folders to a hostile guest over virtiofs.
//
// Start with [Serve], which listens on a unix socket for a virtual machine
// monitor and serves a synthetic read-only root whose children are the folders.
// [New] gives the file system alone, for a transport of one's own and for
// tests; it implements go-fuse's fuse.RawFileSystem.
//
// # What it promises
//
// The guest's kernel is the attacker's, so every number and name that arrives
// is taken for an attack:
//
//   - No request reaches anything outside the folders. A host path is resolved
//     once, when a folder is opened; after that each step is one openat of one
//     component, relative to a descriptor, without following symbolic links.
//     Links are data for the guest. Names with a slash, "..", or more than 255
//     bytes are refused.
//   - A read-only folder is read-only here, whatever the guest mounts. A folder
//     that lies inside another keeps its own rule when the guest walks to it
//     through the outer one.
//   - No device nodes, no setuid or setgid bits on files, only user.* extended
//     attributes, no ioctls.
//   - A node or handle number that was never given out, or was given back, is
//     answered with ESTALE or EBADF. Numbers are not used twice.
//   - Descriptors are bounded: however many files the guest looks at, only the
//     recently used ones are open. The others are a place (parent and name) and
//     an identity (device, inode, birth time) that is checked at the next use.
//
// # What the guest sees
//
// Everything belongs to [Options].Owner; chown is accepted and ignored. What
// the guest creates belongs to the user of this process. Changes made on the
// host are seen within [Options].CacheTTL, at most one second. Locks are local
// to the guest. A folder that disappears answers with errors; the others go on.
package workspace
