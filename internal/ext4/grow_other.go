//go:build !linux

package ext4

import (
	"context"
	"errors"
)

// Grow needs Linux.
func Grow(context.Context, string, string) error {
	return errors.New("cannot grow a file system: it needs a Linux host")
}
