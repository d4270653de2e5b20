package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
)

// Version is a QEMU release.
type Version struct{ Major, Minor, Micro int }

// Oldest is the first release that has all that the driver uses.
var Oldest = Version{7, 2, 0}

func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Micro) }

// Before tells whether v is older than w.
func (v Version) Before(w Version) bool {
	if v.Major != w.Major {
		return v.Major < w.Major
	}
	if v.Minor != w.Minor {
		return v.Minor < w.Minor
	}
	return v.Micro < w.Micro
}

// ErrNotInstalled and ErrTooOld are what Find's errors wrap.
var (
	ErrNotInstalled = errors.New("qemu is not installed")
	ErrTooOld       = errors.New("qemu is too old")
)

// Installation is a QEMU that the driver can use. All paths are absolute.
type Installation struct {
	Binary   string // qemu-system-ARCH
	Image    string // qemu-img
	Version  Version
	DataDir  string // QEMU's firmware and tables
	Firmware string // qboot.rom; empty where the machine needs none
}

// Find examines binary, or when that is empty the qemu-system-ARCH in PATH.
func Find(ctx context.Context, binary string) (*Installation, error) {
	name := binary
	if name == "" {
		name = "qemu-system-" + qemuArch(runtime.GOARCH)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %s was not found; run `sbx setup`", ErrNotInstalled, name)
	}
	if path, err = filepath.Abs(path); err != nil {
		return nil, fmt.Errorf("find qemu: %w", err)
	}
	inst := &Installation{Binary: path}
	if inst.Version, err = versionOf(ctx, path); err != nil {
		return nil, err
	}
	if inst.Version.Before(Oldest) {
		return nil, fmt.Errorf("%w: %s is version %s, but %d.%d or newer is needed; run `sbx setup`",
			ErrTooOld, path, inst.Version, Oldest.Major, Oldest.Minor)
	}
	if inst.Image, err = findImageTool(path); err != nil {
		return nil, err
	}
	if runtime.GOARCH != "amd64" {
		return inst, nil
	}
	if inst.DataDir, err = findDataDir(path); err != nil {
		return nil, err
	}
	inst.Firmware = filepath.Join(inst.DataDir, firmwareName)
	return inst, nil
}

const firmwareName = "qboot.rom"

func qemuArch(goarch string) string {
	if goarch == "arm64" {
		return "aarch64"
	}
	return "x86_64"
}

var versionLine = regexp.MustCompile(`^QEMU emulator version (\d{1,4})\.(\d{1,4})(?:\.(\d{1,4}))?`)

func versionOf(ctx context.Context, binary string) (Version, error) {
	out, err := exec.CommandContext(ctx, binary, "--version").Output()
	if err != nil {
		return Version{}, fmt.Errorf("ask %s for its version: %w", binary, err)
	}
	v, err := parseVersion(string(out))
	if err != nil {
		return Version{}, fmt.Errorf("%s: %w", binary, err)
	}
	return v, nil
}

func parseVersion(out string) (Version, error) {
	m := versionLine.FindStringSubmatch(out)
	if m == nil {
		return Version{}, errors.New("is not qemu, or of an unknown version")
	}
	var v Version
	for i, field := range []*int{&v.Major, &v.Minor, &v.Micro} {
		if m[i+1] != "" {
			*field, _ = strconv.Atoi(m[i+1]) // at most four digits
		}
	}
	return v, nil
}

// findImageTool prefers the qemu-img beside the binary: they belong together.
func findImageTool(binary string) (string, error) {
	beside := filepath.Join(filepath.Dir(binary), "qemu-img")
	if path, err := exec.LookPath(beside); err == nil {
		return path, nil
	}
	path, err := exec.LookPath("qemu-img")
	if err != nil {
		return "", fmt.Errorf("%w: qemu-img was not found; run `sbx setup`", ErrNotInstalled)
	}
	return filepath.Abs(path)
}

// findDataDir looks where distributions put the firmware: first below the
// prefix of the binary, so that an unpacked or self-built QEMU brings its own.
func findDataDir(binary string) (string, error) {
	resolved, err := filepath.EvalSymlinks(binary)
	if err != nil {
		return "", fmt.Errorf("find qemu's firmware: %w", err)
	}
	candidates := []string{
		filepath.Join(filepath.Dir(resolved), "..", "share", "qemu"),
		"/usr/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu-firmware",
	}
	for _, dir := range candidates {
		if _, err := os.Stat(filepath.Join(dir, firmwareName)); err == nil {
			return filepath.Clean(dir), nil
		}
	}
	return "", fmt.Errorf("%w completely: its firmware %s was not found near %s; run `sbx setup`",
		ErrNotInstalled, firmwareName, binary)
}
