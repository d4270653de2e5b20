// Package session is the SSH server (RFC 4254) of the guest: it runs programs
// as the sandbox's users and connects their input and output to SSH channels.
//
// Start from [Server]. A session channel runs one program: exec (through the
// user's shell), shell (a login shell), the subsystem sftp, or one of this
// project's own requests, spawn@sbx and attach@sbx, which package control
// describes. direct-tcpip and direct-streamlocal@openssh.com channels reach
// services inside the guest. Orders about the whole guest (global requests)
// are handed to [Server.Order].
//
// A session ends when its program has ended and what it had written was
// delivered. A background process that keeps the output open does not hold the
// session up. When the channel goes away first, the program loses its terminal
// (SIGHUP) or its pipes; programs of persistent sessions go on.
//
// Whoever connects is trusted: it is the host. What the programs write is not.
package session
