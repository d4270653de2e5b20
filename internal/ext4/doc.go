// Package ext4 makes ext4 file system images out of tar streams, without
// root, without mounting anything and without another program.
//
// Start at [FromTar] on the host; the guest calls [Grow] once the image is
// mounted on a disk that is larger than it.
//
// # What it promises
//
// Everything a tar entry says is kept: owner, mode with setuid, setgid and
// sticky bits, times to the nanosecond, extended attributes (file capabilities
// and POSIX ACLs included), hard links, symbolic links, devices and FIFOs.
// e2fsck finds nothing to say about the result, neither at first nor after it
// was grown. The image is written sequentially and is sparse: inode tables,
// the journal and runs of zeros in files take no space on the host.
//
// A tar stream is untrusted. Names and link targets are data of the image:
// they are resolved in memory against the tree that the archive itself makes,
// with its own root, and nothing is ever looked up on the host. The number of
// entries, the lengths of names and the sum of sizes are bounded ([Options]).
//
// # Why a writer of its own
//
// mke2fs -d needs a directory, so without root a user namespace with
// subordinate ids, where device nodes can't exist; reading tar came with
// e2fsprogs 1.47.1 only, through a libarchive that need not be there. The
// tar2ext4 of Microsoft/hcsshim makes compact read-only images (32-bit group
// descriptors, no journal, no checksums, hardly a free inode, hard links only
// to what came before), which resize2fs and tune2fs have to turn into
// something else afterwards. In the one try made, with a Debian tree of 51,000
// files, e2fsck found errors in what it wrote, and tune2fs then failed to add
// the journal and checksums in one step; speed did not decide. The layout that
// a sandbox wants is fixed and simple, and can be written in one pass:
//
//   - 64bit, extents, flex_bg, dir_index, metadata_csum and a journal, as
//     mke2fs makes by default. Because of metadata_csum, inode tables of
//     groups that are added later count as uninitialized and are zeroed in the
//     background, so growing does not write them.
//   - meta_bg instead of resize_inode: each group descriptor block lives in the
//     groups that it describes, so there is no table to reserve room for,
//     nothing to move, and no limit short of the format's for growing online.
//   - Every block's place is known before it is written: metadata is a prefix
//     of its group (see layout.go), data fills the rest in order.
//
// The format is described in the kernel's Documentation/filesystems/ext4.
package ext4
