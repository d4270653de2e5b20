// Package debian gets packages from the Debian mirror that this machine
// already uses, in an apt world of its own: the host's sources, lists and
// package state stay untouched, no root is needed, and apt verifies the
// archive's signatures.
package debian
