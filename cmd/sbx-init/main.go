//go:build linux

// Command sbx-init is PID 1 in a sandbox's virtual machine. It is built for
// the guest and carried inside sbx; nobody starts it by hand.
package main

import (
	"os"

	"sbx/internal/guest"
)

func main() { os.Exit(guest.Main()) }
