//go:build !linux

package supervisor

import "errors"

// Kill is for Linux.
func (c *Client) Kill() error { return errors.ErrUnsupported }
