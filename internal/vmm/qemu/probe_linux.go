package qemu

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

const kvmDevice = "/dev/kvm"

// checkDevice tells what a user can mend without a probe.
func checkDevice() error {
	f, err := os.OpenFile(kvmDevice, os.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case err == nil:
		return f.Close()
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s does not exist: turn virtualization on in the firmware settings, load the module kvm_intel or kvm_amd, or, in a virtual machine, allow nested virtualization", kvmDevice)
	case errors.Is(err, fs.ErrPermission):
		group := deviceGroup()
		if group == "root" {
			return fmt.Errorf("you may not open %s, which belongs to root alone: give it to the group kvm (sudo chgrp kvm %s; sudo chmod 660 %s), join that (sudo usermod -aG kvm $USER) and log in again", kvmDevice, kvmDevice, kvmDevice)
		}
		return fmt.Errorf("you may not open %s: join the group %s (sudo usermod -aG %s $USER) and log in again", kvmDevice, group, group)
	default:
		return fmt.Errorf("cannot use hardware virtualization: %w", err)
	}
}

// deviceGroup is the name of the group that owns the device.
func deviceGroup() string {
	st, err := os.Stat(kvmDevice)
	if err != nil {
		return "kvm"
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "kvm"
	}
	g, err := user.LookupGroupId(strconv.FormatUint(uint64(sys.Gid), 10))
	if err != nil {
		return "kvm"
	}
	return g.Name
}

// hostKernel names the running kernel, as far as KVM may depend on it.
func hostKernel() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
}
