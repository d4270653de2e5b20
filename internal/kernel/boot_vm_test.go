package kernel

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestBoot boots the prepared kernel, with an init that loads the boot modules
// and mounts the modules image, under emulation.
func TestBoot(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the machine below is an x86")
	}
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skip(err)
	}
	_, k := cacheWithKernel(t)
	init := filepath.Join(t.TempDir(), "init")
	build := exec.Command("go", "build", "-o", init, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	program, err := os.ReadFile(init)
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := BuildInitramfs(k, program)
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(initrd)

	cmd := exec.CommandContext(t.Context(), qemu, "-M", "q35", "-bios", "qboot.rom",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "512",
		"-nodefaults", "-no-user-config", "-nographic", "-no-reboot", "-serial", "stdio",
		"-kernel", k.Vmlinux(), "-initrd", initrd,
		"-append", "console=ttyS0 8250.nr_uarts=1 panic=-1 quiet no_timer_check random.trust_cpu=on cryptomgr.notests",
		"-drive", "if=none,id=d0,format=raw,readonly=on,file="+k.ModulesImage(), "-device", "virtio-blk-pci,drive=d0",
		"-device", "virtio-balloon-pci", "-device", "virtio-rng-pci")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	passed := false
	for sc := bufio.NewScanner(out); sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		t.Logf("%.2fs %s", time.Since(start).Seconds(), line)
		passed = passed || line == "test: PASSED"
		if rel, ok := strings.CutPrefix(line, "test: release "); ok && rel != k.Release {
			t.Errorf("the guest runs %s, the kernel is recorded as %s", rel, k.Release)
		}
	}
	if err := cmd.Wait(); err != nil || !passed {
		t.Errorf("the guest did not pass: %v", err)
	}
}
