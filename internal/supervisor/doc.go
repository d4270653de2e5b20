// Package supervisor is the process that owns one running sandbox.
//
// [Spawn] starts it, detached, as a hidden subcommand of the same binary; [Run]
// is that subcommand: it takes the sandbox's lock, starts the workspace server
// and the virtual machine, makes the guest this sandbox, serves two unix
// sockets, and ends with the machine. Whoever wants something of a running
// sandbox uses a [Client]: state and orders over HTTP on api.sock, byte streams
// to the guest's SSH server on ssh.sock.
//
// Both sockets lie in a directory of mode 0700; who can open them is the user.
// Nothing else listens.
package supervisor
