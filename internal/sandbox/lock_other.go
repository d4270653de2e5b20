//go:build !linux

package sandbox

import (
	"context"
	"errors"
)

var errLinuxOnly = errors.New("sandboxes need a Linux host for now")

func acquire(string) (*Lock, error)                      { return nil, errLinuxOnly }
func acquireWait(context.Context, string) (*Lock, error) { return nil, errLinuxOnly }
func locked(string) bool                                 { return false }
