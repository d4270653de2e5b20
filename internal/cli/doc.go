// Package cli is the sbx command: one file a command, each of which parses its
// arguments, calls one function of the packages below, and prints. Start from
// [Main].
package cli
