package template

import "syscall"

// processGroup starts a program in a group of its own that ends with sbx.
func processGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func killGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }
