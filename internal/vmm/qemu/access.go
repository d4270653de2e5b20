package qemu

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sbx/internal/vmm"
)

// access lists the files that a QEMU process may use.
type access struct {
	exec    []string // the program and its libraries
	read    []string
	write   []string
	sockets []string // directories in which it makes sockets
}

// accessFor is what inst needs to run c, and no more: in particular nothing in
// the user's home directory, and no other sandbox's disk.
func accessFor(inst Installation, c vmm.Config) (access, error) {
	prefix := filepath.Dir(filepath.Dir(inst.Binary))
	if resolved, err := filepath.EvalSymlinks(inst.Binary); err == nil {
		prefix = filepath.Dir(filepath.Dir(resolved))
	}
	a := access{
		exec: []string{
			inst.Binary, "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64",
			filepath.Join(prefix, "lib"), filepath.Join(prefix, "lib64"), "/nix/store", "/gnu/store",
		},
		read: []string{
			c.Kernel, c.Initrd,
			"/etc/ld.so.cache", "/etc/ld.so.preload",
			// What the C library and QEMU ask about processors and page sizes.
			"/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/kernel/mm/transparent_hugepage",
		},
		// QEMU tries on /dev/null whether the host has the locks (F_OFD_SETLK)
		// that keep two machines off one disk.
		write:   []string{"/dev/null"},
		sockets: []string{c.Dir},
	}
	if inst.DataDir != "" {
		a.read = append(a.read, inst.DataDir)
	}
	if c.Accel == vmm.KVM {
		a.write = append(a.write, "/dev/kvm")
	}
	for _, d := range c.Disks {
		if d.ReadOnly {
			a.read = append(a.read, d.Path)
		} else {
			a.write = append(a.write, d.Path)
		}
		below, err := backingFiles(d)
		if err != nil {
			return access{}, err
		}
		a.read = append(a.read, below...)
	}
	return a, nil
}

// maxChain is how many images may lie below a disk.
const maxChain = 16

// backingFiles lists the images below a qcow2 disk. The guest writes into the
// image but not into its header, which is the host's.
func backingFiles(d vmm.Disk) ([]string, error) {
	var below []string
	path := d.Path
	for d.Format == "qcow2" {
		backing, err := backingFile(path)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", path, err)
		}
		if backing == "" {
			break
		}
		if len(below) == maxChain {
			return nil, fmt.Errorf("disk %s: more than %d images below it", d.Path, maxChain)
		}
		if !filepath.IsAbs(backing) {
			backing = filepath.Join(filepath.Dir(path), backing)
		}
		below = append(below, backing)
		path = backing
	}
	return below, nil
}

// qcow2Magic begins an image (QEMU's docs/interop/qcow2.rst); at 8 follow the
// offset (8 bytes) and the length (4) of the backing file's name.
const qcow2Magic = "QFI\xfb"

// backingFile is the name in the header of a qcow2 image; empty for an image
// without, and for what is not qcow2.
func backingFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	var header [20]byte
	if _, err := io.ReadFull(f, header[:]); err != nil || string(header[:4]) != qcow2Magic {
		return "", nil
	}
	offset := binary.BigEndian.Uint64(header[8:])
	length := binary.BigEndian.Uint32(header[16:])
	if offset == 0 || length == 0 {
		return "", nil
	}
	const longest = 1023 // by the specification
	if length > longest || offset > 1<<20 {
		return "", fmt.Errorf("its header is damaged")
	}
	name := make([]byte, length)
	if _, err := f.ReadAt(name, int64(offset)); err != nil {
		return "", fmt.Errorf("its header is damaged: %w", err)
	}
	return string(name), nil
}
