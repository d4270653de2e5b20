package qemu

import (
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
func accessFor(inst Installation, c vmm.Config) access {
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
		if d.Backing != "" {
			a.read = append(a.read, d.Backing)
		}
	}
	return a
}
