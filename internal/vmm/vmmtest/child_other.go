//go:build !linux

package vmmtest

import (
	"testing"

	"sbx/internal/vmm"
)

func wantGone(*testing.T, int) {}

func testSupervisorKilled(t *testing.T, _ vmm.Driver, _ Fixture) { t.Skip("needs Linux") }
func testDiskFull(t *testing.T, _ vmm.Driver, _ Fixture)         { t.Skip("needs Linux") }
