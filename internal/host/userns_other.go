//go:build !linux

package host

import (
	"context"
	"errors"
)

func tryUserNamespace(context.Context) error {
	return errors.New("user namespaces need a Linux host")
}
