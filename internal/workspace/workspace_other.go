//go:build !linux

package workspace

import (
	"context"
	"errors"
)

var errLinux = errors.New("workspace: sharing a folder with a sandbox needs a Linux host")

// FS is the file system that a guest sees. It needs a Linux host.
type FS struct{}

// New fails: it needs a Linux host.
func New([]Folder, Options) (*FS, error) { return nil, errLinux }

// Close does nothing.
func (*FS) Close() error { return nil }

// Server is a running workspace server. It needs a Linux host.
type Server struct{}

// Serve fails: it needs a Linux host.
func Serve(context.Context, string, []Folder, Options) (*Server, error) { return nil, errLinux }

// Close does nothing.
func (*Server) Close() error { return nil }
