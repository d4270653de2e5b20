package vhostuser_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"sbx/internal/workspace"
)

// The tests of this file boot a guest that mounts the share at /ws and runs
// the script that it finds there, so the host and the guest talk through the
// very thing under test. They need QEMU, a static busybox and, in
// SBX_TEST_KERNEL, a vmlinux with virtio-pci and virtiofs built in.

const guestInit = `#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /ws /share /tmp
mount -t tmpfs tmp /tmp
mount -t virtiofs ws /share && mount -o bind /share/folder /ws && sh /ws/run.sh
poweroff -f
`

// vmBound is only there so that a hung test ends.
const vmBound = 5 * time.Minute

type vm struct {
	cmd  *exec.Cmd
	qmp  *bufio.Scanner
	conn net.Conn
	done chan error
}

func bootGuest(t *testing.T, socket string, extra ...string) *vm {
	t.Helper()
	kernel := os.Getenv("SBX_TEST_KERNEL")
	dir := t.TempDir()
	initrd := filepath.Join(dir, "initrd")
	busybox, err := os.ReadFile("/usr/bin/busybox")
	if err != nil {
		t.Fatalf("the test needs a static busybox: %v", err)
	}
	var archive bytes.Buffer
	newc(&archive, "bin", 0o40755, nil)
	for _, d := range []string{"proc", "sys", "dev"} {
		newc(&archive, d, 0o40755, nil)
	}
	newc(&archive, "bin/busybox", 0o100755, busybox)
	newc(&archive, "init", 0o100755, []byte(guestInit))
	newc(&archive, "TRAILER!!!", 0, nil)
	if err := os.WriteFile(initrd, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	qmp := filepath.Join(dir, "qmp")
	args := append([]string{
		"-M", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "512",
		"-object", "memory-backend-memfd,id=mem,size=512M,share=on",
		"-bios", "qboot.rom", "-nodefaults", "-no-user-config", "-nographic",
		"-kernel", kernel, "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 no_timer_check tsc=reliable mitigations=off",
		"-serial", "file:" + filepath.Join(dir, "console"),
		"-qmp", "unix:" + qmp + ",server=on,wait=off",
		"-chardev", "socket,id=fs0,path=" + socket,
		"-device", "vhost-user-fs-pci,chardev=fs0,tag=ws,queue-size=512",
	}, extra...)
	cmd := exec.Command("qemu-system-x86_64", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	v := &vm{cmd: cmd, done: make(chan error, 1)}
	go func() { v.done <- cmd.Wait() }()
	t.Cleanup(func() {
		v.kill()
		if t.Failed() {
			console, _ := os.ReadFile(filepath.Join(dir, "console"))
			t.Logf("console:\n%s", console)
		}
	})
	eventually(t, "the monitor answers", func() bool {
		v.conn, err = net.Dial("unix", qmp)
		return err == nil
	})
	v.qmp = bufio.NewScanner(v.conn)
	v.qmp.Scan()
	v.command(t, "qmp_capabilities")
	return v
}

// newc appends a file to a cpio archive.
func newc(w *bytes.Buffer, name string, mode int, data []byte) {
	fmt.Fprintf(w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0, name)
	pad := func() {
		for w.Len()%4 != 0 {
			w.WriteByte(0)
		}
	}
	pad()
	w.Write(data)
	pad()
}

// command runs a QMP command; a monitor that hangs fails the test.
func (v *vm) command(t *testing.T, name string) {
	t.Helper()
	_ = v.conn.SetDeadline(time.Now().Add(vmBound))
	if _, err := fmt.Fprintf(v.conn, `{"execute":%q}`, name); err != nil {
		t.Fatalf("QMP %s: %v", name, err)
	}
	for v.qmp.Scan() {
		var m map[string]any
		if err := json.Unmarshal(v.qmp.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if _, ok := m["return"]; ok {
			return
		}
		if e, ok := m["error"]; ok {
			t.Fatalf("QMP %s: %v", name, e)
		}
	}
	t.Fatalf("QMP %s got no answer: %v", name, v.qmp.Err())
}

func (v *vm) kill() {
	_ = v.cmd.Process.Kill()
	v.wait()
}

func (v *vm) wait() { v.done <- <-v.done }

// waitOff waits for the guest's own power-off.
func (v *vm) waitOff(t *testing.T) {
	t.Helper()
	select {
	case err := <-v.done:
		v.done <- err
	case <-time.After(vmBound):
		t.Fatal("the machine didn't power off")
	}
}

// eventually polls for what another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(vmBound); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("gave up waiting until %s", what)
		}
	}
}

// share serves dir and returns the socket.
func share(t *testing.T, dir string) string {
	t.Helper()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	socket := filepath.Join(t.TempDir(), "fs")
	srv, err := workspace.Serve(t.Context(), socket, []workspace.Folder{{Name: "folder", Path: dir}}, workspace.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
	})
	return socket
}

func script(t *testing.T, dir, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "run.sh"), []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func needVM(t *testing.T) {
	t.Helper()
	if os.Getenv("SBX_TEST_KERNEL") == "" {
		t.Skip("SBX_TEST_KERNEL is not set")
	}
}

// TestVM takes one share through the life of several machines.
func TestVM(t *testing.T) {
	needVM(t)
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	socket := share(t, dir)

	script(t, dir, `
set -e
cd /ws
dd if=/dev/urandom of=big bs=1M count=20 2>/dev/null
sha256sum big > sum
echo 3 > /proc/sys/vm/drop_caches
sha256sum -c sum > checked
if ! [ -e booted ]; then touch booted; reboot -f; fi
touch busy
i=0; while ! [ -e halt ]; do i=$((i+1)); echo $i > count; cat count > /dev/null; done
mv count final
sync
`)
	v := bootGuest(t, socket)
	eventually(t, "the rebooted guest works", func() bool { return exists(at("busy")) })
	for range 20 {
		v.command(t, "stop")
		v.command(t, "cont")
	}
	if err := os.WriteFile(at("halt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	v.waitOff(t)
	if !exists(at("final")) {
		t.Fatal("the guest didn't finish its loop")
	}

	script(t, dir, "touch /ws/third; while :; do echo > /ws/x; done")
	v = bootGuest(t, socket)
	eventually(t, "the second machine works", func() bool { return exists(at("third")) })
	v.kill()

	script(t, dir, "touch /ws/fourth")
	v = bootGuest(t, socket)
	v.waitOff(t)
	if !exists(at("fourth")) {
		t.Fatal("no machine can mount after one was killed")
	}
}
