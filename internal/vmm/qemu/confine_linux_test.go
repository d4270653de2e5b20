package qemu

import (
	"bytes"
	"os"
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

func TestAccessIsOnlyWhatTheMachineHas(t *testing.T) {
	c := sample()
	c.Disks = []vmm.Disk{{Path: "/disk", Format: "qcow2", Backing: "/base"}, {Path: "/modules", Format: "raw", ReadOnly: true}}
	a := accessFor(sampleInstallation(), c)
	for _, want := range []string{"/base", "/modules", c.Kernel, c.Initrd} {
		if !slices.Contains(a.read, want) {
			t.Errorf("%s can't be read; only %s", want, a.read)
		}
	}
	if want := []string{"/dev/null", "/disk"}; !slices.Equal(a.write, want) {
		t.Errorf("writable are %s, want only %s", a.write, want)
	}
}
