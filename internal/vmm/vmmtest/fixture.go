package vmmtest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sbx/internal/vmm"
)

// Environment variables that say what to test with.
const (
	// EnvKernel is the path of a vmlinux; without it the suite is skipped.
	EnvKernel = "SBX_TEST_KERNEL"
	// EnvModules is a directory below which that kernel's modules are, as .ko
	// or .ko.xz files.
	EnvModules = "SBX_TEST_MODULES"
	// envInitrd hands a finished initramfs on to the suite's own children.
	envInitrd = "SBX_TEST_INITRD"
)

// Fixture is what the suite's machines are made of.
type Fixture struct {
	Kernel, Initrd string
	Accel          vmm.Accel
	// ServeShare starts a vhost-user-fs back end on socket, until the test's
	// end. Its file system has the file "hello" with the content "hello\n", and
	// can be written. Nil skips the tests of shares.
	ServeShare func(t *testing.T, socket string)
}

// modules are those that the test guest needs where they are not built in.
var modules = []string{"virtio_blk", "virtio_balloon", "virtio-rng"}

// NewFixture prepares guests that run under software emulation, or skips t.
func NewFixture(t *testing.T) Fixture {
	t.Helper()
	kernel := os.Getenv(EnvKernel)
	if kernel == "" {
		t.Skipf("%s names no kernel to start", EnvKernel)
	}
	if _, err := os.Stat(kernel); err != nil {
		t.Fatalf("%s: %v", EnvKernel, err)
	}
	initrd := os.Getenv(envInitrd)
	if initrd == "" {
		initrd = filepath.Join(t.TempDir(), "initrd")
		if err := buildInitrd(initrd, os.Getenv(EnvModules)); err != nil {
			t.Fatalf("build the test guest: %v", err)
		}
	}
	return Fixture{Kernel: kernel, Initrd: initrd, Accel: vmm.TCG}
}

func buildInitrd(path, modulesDir string) error {
	program, err := buildGuest(filepath.Dir(path))
	if err != nil {
		return err
	}
	entries := []entry{
		{name: "init", mode: 0o100755, data: program},
		{name: "dev", mode: 0o040755}, {name: "proc", mode: 0o040755},
		{name: "sys", mode: 0o040755}, {name: "modules", mode: 0o040755},
		// Where the kernel finds the first program's standard streams.
		{name: "dev/console", mode: 0o020600, major: 5, minor: 1},
	}
	for i, name := range modules {
		found, data, err := findModule(modulesDir, name)
		if err != nil {
			return err
		}
		if found != "" {
			entries = append(entries, entry{name: fmt.Sprintf("modules/%d-%s", i, found), mode: 0o100644, data: data})
		}
	}
	var b bytes.Buffer
	writeArchive(&b, entries)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

func buildGuest(dir string) ([]byte, error) {
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		return nil, fmt.Errorf("cannot tell where the sources are")
	}
	out := filepath.Join(dir, "testguest")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = filepath.Join(filepath.Dir(here), "testguest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said)
	}
	return os.ReadFile(out)
}

// findModule looks for a module below dir; one that is not there is taken to
// be built into the kernel.
func findModule(dir, name string) (file string, data []byte, err error) {
	if dir == "" {
		return "", nil, nil
	}
	name = strings.NewReplacer("_", "?", "-", "?").Replace(name) // a file's name may have either
	for _, suffix := range []string{".ko", ".ko.xz"} {
		for _, pattern := range []string{name, "*/" + name, "*/*/" + name, "*/*/*/" + name, "*/*/*/*/" + name, "*/*/*/*/*/" + name} {
			found, err := filepath.Glob(filepath.Join(dir, pattern+suffix))
			if err != nil {
				return "", nil, err
			}
			if len(found) > 0 {
				data, err := os.ReadFile(found[0])
				return filepath.Base(found[0]), data, err
			}
		}
	}
	return "", nil, nil
}

// entry is a member of an initramfs.
type entry struct {
	name         string
	mode         uint32
	major, minor uint32
	data         []byte
}

// writeArchive writes a cpio archive in the "newc" format (the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst).
func writeArchive(b *bytes.Buffer, entries []entry) {
	for i, e := range append(entries, entry{name: "TRAILER!!!"}) {
		fmt.Fprintf(b, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
			i+1, e.mode, 0, 0, 1, 0, len(e.data), 0, 0, e.major, e.minor, len(e.name)+1, 0)
		b.WriteString(e.name)
		b.WriteByte(0)
		pad(b)
		b.Write(e.data)
		pad(b)
	}
}

func pad(b *bytes.Buffer) {
	for b.Len()%4 != 0 {
		b.WriteByte(0)
	}
}
