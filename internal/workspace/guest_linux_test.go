package workspace

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
)

const guestInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mkdir -p /ws
mount -t virtiofs ws /ws && sh -eux /ws/w/run.sh > /ws/w/log 2>&1 && echo passed >> /ws/w/log
umount /ws
poweroff -f
`

// What a guest does through virtiofs, in contrast to a mount of the host's: the
// protocol server, the transport, and the kernel that users will have.
const guestScript = `
cd /ws/w
test "$(cat from-host)" = hello
test "$(stat -c %u:%g from-host)" = 1000:1000
echo hi > from-guest && chown 0:0 from-guest && chmod 4750 from-guest
mkdir -p d/e && for i in $(seq 100); do echo $i > d/e/f$i; done
test $(ls d/e | wc -l) = 100
mv d/e d/moved && rm d/moved/f1 && ln d/moved/f2 hard && ln -s /etc/passwd link
mkfifo fifo
! mknod dev c 1 3
dd if=/dev/urandom of=big bs=1M count=20 2>/dev/null && sha256sum big > sum
umount /ws && mount -t virtiofs ws /ws && cd /ws/w && sha256sum -c sum
exec 3<> open && rm open && echo still >&3 && cat /proc/self/fd/3 | grep still && exec 3>&-
! touch ../r/new && ! sh -c 'echo x >> ../r/file' && ! rm ../r/file && ! touch ../new
grep 'read me' ../r/file
mount -o remount,rw /ws && ! touch ../r/new
rm -r d
`

func TestGuestUsesTheFolders(t *testing.T) {
	kernel := os.Getenv("SBX_TEST_KERNEL")
	if kernel == "" {
		t.Skip("SBX_TEST_KERNEL is not set")
	}
	x := newFS(t, Options{})
	write(t, x.hostRW+"/from-host", "hello")
	write(t, x.hostRW+"/run.sh", guestScript)
	before := snapshot(t, x.hostRO)
	dir := t.TempDir()
	socket, initrd := filepath.Join(dir, "s"), filepath.Join(dir, "initrd")
	must(t, os.WriteFile(initrd, guestImage(t), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s, err := Serve(ctx, socket, x.fs.folders, Options{Owner: testOwner, Refused: x.refusals.add})
	must(t, err)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "512",
		"-object", "memory-backend-memfd,id=mem,size=512M,share=on", "-bios", "qboot.rom",
		"-nodefaults", "-no-user-config", "-nographic", "-kernel", kernel, "-initrd", initrd,
		"-append", "quiet panic=-1 no_timer_check tsc=reliable",
		"-chardev", "socket,id=fs0,path="+socket, "-device", "vhost-user-fs-pci,chardev=fs0,tag=ws,queue-size=512")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("qemu: %v\n%s", err, out)
	}
	must(t, s.Close())
	if log := read(t, x.hostRW+"/log"); !strings.HasSuffix(log, "passed\n") {
		t.Errorf("the guest's script failed:\n%s", log)
	}
	info, err := os.Stat(x.hostRW + "/from-guest")
	must(t, err)
	if info.Mode() != 0o750 {
		t.Errorf("the guest's file has mode %v", info.Mode())
	}
	if after := snapshot(t, x.hostRO); after != before {
		t.Errorf("the read-only folder changed:\n%s\n%s", before, after)
	}
	if !x.refusals.has("mknod") || !x.refusals.has("create") {
		t.Errorf("refusals: %v", x.refusals.all)
	}
}

// guestImage is an initramfs of busybox alone.
func guestImage(t *testing.T) []byte {
	t.Helper()
	busybox, err := os.ReadFile("/usr/bin/busybox")
	must(t, err)
	var image bytes.Buffer
	w := cpio.NewWriter(&image)
	add := func(name string, mode cpio.FileMode, data []byte) {
		must(t, w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(data)), Links: 1}))
		_, err := w.Write(data)
		must(t, err)
	}
	for _, d := range []string{"bin", "proc", "dev"} {
		add(d, cpio.TypeDir|0o755, nil)
	}
	add("bin/busybox", cpio.TypeReg|0o755, busybox)
	add("init", cpio.TypeReg|0o755, []byte(guestInit))
	must(t, w.Close())
	return image.Bytes()
}
