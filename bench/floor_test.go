package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// TestFloor runs the program on the host, where it must print its text and
// then wait.
func TestFloor(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the program is for Linux")
	}
	code, err := floorCode(runtime.GOARCH)
	if err != nil {
		t.Skip(err)
	}
	path := filepath.Join(t.TempDir(), "init")
	if err := os.WriteFile(path, floorELF(runtime.GOARCH, code), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	buf := make([]byte, len(floorText))
	if n, err := out.Read(buf); err != nil || string(buf[:n]) != floorText {
		t.Errorf("printed %q, %v", buf[:n], err)
	}
}
