// Package qemu drives QEMU as a virtual machine monitor.
//
// [Find] locates an installation, [New] makes a [Driver] of it, and the
// driver's Start boots machines as package vmm's contract says. [Probe] tells
// whether KVM can be used, and [CreateOverlay] makes a sandbox's disk.
//
// The machine is small on purpose. On x86-64 it is q35 with the qboot firmware,
// which starts an uncompressed kernel through its PVH entry: nothing on it but
// virtio-pci devices, a few PCIe root ports for hot-plug, and a serial port
// that carries early messages. It has no network device, no display, no USB
// and no disk controller. What is on the command line is in args.go, and why.
//
// QEMU is a child process that the guest may take over. It has no descriptor
// but those in spawn, no environment, may not start programs (its own seccomp
// filter), gains no privileges, sees no file but those in accessFor (Landlock,
// where the kernel has it), and dies with this process whatever kills it.
// What it sends is parsed as an attacker's.
package qemu
