package settings

import "time"

// The accessors below can't fail: Load checked every value.

// Accel is "auto", "kvm" or "tcg".
func (s *Settings) Accel() string { return s.values["vm.accel"].Value }

// QEMU is the path of the QEMU program, or "" for the one in PATH.
func (s *Settings) QEMU() string { return s.values["vm.qemu"].Value }

// IdleTimeout is how long a sandbox without a session lives; 0 is for ever.
func (s *Settings) IdleTimeout() time.Duration {
	return must(ParseIdleTimeout(s.values["vm.idle-timeout"].Value))
}

// Memory of a new sandbox in bytes; 0 leaves the choice to sbx.
func (s *Settings) Memory() int64 { return must(ParseMemory(s.values["vm.memory"].Value)) }

// CPUs of a new sandbox; 0 is all of the host's.
func (s *Settings) CPUs() int { return must(ParseCPUs(s.values["vm.cpus"].Value)) }

// Disk size of a new sandbox in bytes.
func (s *Settings) Disk() int64 { return must(ParseDisk(s.values["vm.disk"].Value)) }

// Mirror is the URL of a Debian archive, or "" for the machine's own.
func (s *Settings) Mirror() string { return s.values["setup.mirror"].Value }

// Backports says whether setup may take QEMU from Debian's backports.
func (s *Settings) Backports() bool { return s.values["setup.backports"].Value == "true" }

// DetachKeys are the bytes that detach a terminal; none: nothing does.
func (s *Settings) DetachKeys() []byte {
	return must(ParseDetachKeys(s.values["terminal.detach-keys"].Value))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic("settings: a value that Load accepted: " + err.Error())
	}
	return v
}
