package qemu

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sbx/internal/vmm"
)

// TestSpawnedProcessSeesOnlyItsFiles runs a shell in QEMU's place.
func TestSpawnedProcessSeesOnlyItsFiles(t *testing.T) {
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 {
		t.Skipf("this kernel has no Landlock: %v", errno)
	}
	dir := t.TempDir()
	for _, name := range []string{"secret", "readable", "writable"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	a := access{
		exec:  []string{"/bin", "/usr", "/lib", "/lib64", "/nonexistent"},
		read:  []string{filepath.Join(dir, "readable"), "/etc/ld.so.cache"},
		write: []string{filepath.Join(dir, "writable")},
	}
	script := `
cat readable || echo no readable
echo changed > writable || echo no writable
cat secret
echo x >> readable
echo x > new
ls /
ls "` + os.Getenv("HOME") + `"
echo end`
	var out bytes.Buffer
	p, err := spawn("/bin/sh", []string{"-c", script}, dir, nil, a, &out)
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	said := out.String()
	for _, bad := range []string{"no readable", "no writable"} {
		if strings.Contains(said, bad) {
			t.Errorf("what is allowed is denied: %s", said)
		}
	}
	if n := strings.Count(strings.ToLower(said), "permission denied"); n != 5 || !strings.HasSuffix(said, "end\n") {
		t.Errorf("%d refusals, want 5: %s", n, said)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "writable")); string(b) != "changed\n" {
		t.Errorf("the writable file holds %q", b)
	}
	if _, err := os.ReadDir("/"); err != nil {
		t.Errorf("the restriction leaked into this process: %v", err)
	}
}

func TestAccessFollowsBackingFiles(t *testing.T) {
	inst, dir := imageTool(t), t.TempDir()
	base := filepath.Join(dir, "base")
	if err := os.WriteFile(base, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	middle, top := filepath.Join(dir, "middle"), filepath.Join(dir, "top")
	if err := CreateOverlay(t.Context(), inst, base, middle, 1<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(inst.Image, "create", "-q", "-f", "qcow2", "-b", "middle", "-F", "qcow2", top).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := sample()
	c.Disks = []vmm.Disk{{Path: top, Format: "qcow2"}, {Path: base, Format: "raw", ReadOnly: true}}
	a, err := accessFor(sampleInstallation(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{middle, base, c.Kernel, c.Initrd} {
		if !slices.Contains(a.read, want) {
			t.Errorf("%s can't be read; only %s", want, a.read)
		}
	}
	if want := []string{"/dev/null", top}; !slices.Equal(a.write, want) {
		t.Errorf("writable are %s, want only %s", a.write, want)
	}
}

func TestBackingFileOfADamagedImage(t *testing.T) {
	header := func(offset, length string) string {
		return qcow2Magic + "\x00\x00\x00\x03" + offset + length + strings.Repeat("\x00", 100)
	}
	for name, test := range map[string]struct {
		image string
		fails bool
	}{
		"empty":     {"", false},
		"raw":       {strings.Repeat("x", 100), false},
		"none":      {header("\x00\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x00\x00"), false},
		"long name": {header("\x00\x00\x00\x00\x00\x00\x00\x20", "\x00\x01\x00\x00"), true},
		"far away":  {header("\xff\xff\xff\xff\xff\xff\xff\xff", "\x00\x00\x00\x10"), true},
		"cut off":   {header("\x00\x00\x00\x00\x00\x00\x10\x00", "\x00\x00\x00\x10"), true},
	} {
		path := filepath.Join(t.TempDir(), "image")
		if err := os.WriteFile(path, []byte(test.image), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := backingFile(path); got != "" || (err != nil) != test.fails {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}
