package host

import "sbx/internal/vmm/qemu"

// preferredQEMU is the first release with everything that sbx can use;
// qemu.Oldest is the first that works.
var preferredQEMU = qemu.Version{Major: 8, Minor: 2}

// qemuPackages are what brings QEMU, its tools and its firmware.
func (s *system) qemuPackages() []string {
	if s.arch == "arm64" {
		return []string{"qemu-system-arm", "qemu-utils"}
	}
	return []string{"qemu-system-x86", "qemu-utils", "qemu-system-data"}
}
