//go:build !linux

package cli

import "errors"

func hostMemory() (int64, error) { return 0, errors.ErrUnsupported }
