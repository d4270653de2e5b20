//go:build !linux

package supervisor

func (s *supervisor) confine() error { return nil }
