// Package guest is sbx-init, PID 1 of a sandbox's virtual machine.
//
// Start from [Main]. It runs from an initramfs, loads the modules listed in
// /modules/load, opens the control port and waits. Up to here nothing depends
// on the sandbox, because later guests are resumed from a memory snapshot of
// this moment. The order configure@sbx then makes the machine one sandbox:
// randomness and clock first, then the root disk, which replaces the
// initramfs, the pseudo file systems, the workspaces, names and limits.
//
// From then on PID 1 reaps orphans, serves sessions (package session), answers
// for statistics and the clock, and ends the machine in order. Package control
// describes the orders.
//
// PID 1 trusts the host, which is all that can reach the control port, and the
// initramfs. It does not trust what else runs in the guest: an unprivileged
// process cannot make it fail, and a panic in a goroutine that handles a
// program's bytes is contained. Root in the guest can stop its own machine.
package guest
