package qemu

import (
	"os"
	"path/filepath"
	"testing"

	"sbx/internal/vmm/vmmtest"
)

// TestConformance runs the suite on every QEMU that SBX_TEST_QEMU lists,
// separated by colons; by default on the one in PATH.
func TestConformance(t *testing.T) {
	f := vmmtest.NewFixture(t)
	f.ServeShare = serveShare
	for _, binary := range filepath.SplitList(os.Getenv("SBX_TEST_QEMU") + "") {
		testInstallation(t, binary, f)
	}
	if os.Getenv("SBX_TEST_QEMU") == "" {
		testInstallation(t, "", f)
	}
}

func testInstallation(t *testing.T, binary string, f vmmtest.Fixture) {
	inst, err := Find(t.Context(), binary)
	if err != nil {
		t.Fatal(err)
	}
	t.Run(inst.Version.String(), func(t *testing.T) { vmmtest.Run(t, New(inst), f) })
}
