package qemu

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func imageTool(t *testing.T) *Installation {
	t.Helper()
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Skip("qemu-img is not installed")
	}
	return &Installation{Image: path}
}

func TestCreateOverlay(t *testing.T) {
	inst, dir := imageTool(t), t.TempDir()
	base, path := filepath.Join(dir, "base, with: odd name"), filepath.Join(dir, "disk.qcow2")
	if err := errors.Join(os.WriteFile(base, []byte("x"), 0o400), os.Chmod(base, 0o600), os.Truncate(base, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := CreateOverlay(t.Context(), inst, base, path, 1<<30); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(inst.Image, "info", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "(1073741824 bytes)") || !strings.Contains(string(out), base) {
		t.Errorf("%v: %s", err, out)
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode is %v, %v", st.Mode(), err)
	}

	for name, err := range map[string]error{
		"is less than":    CreateOverlay(t.Context(), inst, base, path, 1<<19),
		"its base":        CreateOverlay(t.Context(), inst, filepath.Join(dir, "none"), path, 1<<30),
		"not a file":      CreateOverlay(t.Context(), inst, dir, path, 1<<30),
		"must be absolut": CreateOverlay(t.Context(), inst, base, "disk", 1<<30),
		"no such file":    CreateOverlay(t.Context(), inst, base, filepath.Join(dir, "none", "disk"), 1<<30),
	} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("in the directory are %v, %v", left, err)
	}
}

func TestCreateOverlayWithoutSpace(t *testing.T) {
	dir := t.TempDir()
	tool := filepath.Join(dir, "qemu-img")
	script := "#!/bin/sh\necho \"qemu-img: disk: Could not write: No space left on device\" >&2; exit 1\n"
	base := filepath.Join(dir, "base")
	if err := errors.Join(os.WriteFile(tool, []byte(script), 0o700), os.WriteFile(base, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	err := CreateOverlay(t.Context(), &Installation{Image: tool}, base, filepath.Join(dir, "disk"), 1<<20)
	if !errors.Is(err, errNoSpace) {
		t.Errorf("got %v, want ENOSPC", err)
	}
}
