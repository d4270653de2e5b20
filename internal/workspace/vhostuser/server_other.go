//go:build !linux

package vhostuser

import (
	"context"
	"errors"
	"log/slog"
)

var errLinux = errors.New("sharing a folder with a virtual machine needs a Linux host")

// Server is a vhost-user-fs back end; it exists on Linux only.
type Server struct{}

// Listen fails: this needs a Linux host.
func Listen(socket string, newHandler func() Handler, log *slog.Logger) (*Server, error) {
	return nil, errLinux
}

// Serve fails: this needs a Linux host.
func (s *Server) Serve(ctx context.Context) error { return errLinux }

// Close does nothing.
func (s *Server) Close() error { return nil }

// NewFUSEHandler panics: without a Server there is no use for it.
func NewFUSEHandler(newFS NewFileSystem, log *slog.Logger) Handler { panic(errLinux) }
