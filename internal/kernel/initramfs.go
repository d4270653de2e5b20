package kernel

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// initramfsMaxAge is when an initramfs that another version of sbx made is
// removed. A monitor reads it in the first moments of its life only.
const initramfsMaxAge = 24 * time.Hour

// Initramfs returns the path of the initramfs for this kernel, with the guest
// program that is embedded in this build of sbx. It is made where it is not
// there yet; any number of processes may call this at once.
//
// In it are /init, the modules to load at boot as /modules/NAME.ko, their
// names in load order in /modules/load, one a line, the node /dev/console, and
// the empty directories /proc, /sys and /newroot.
func (k *Kernel) Initramfs() (string, error) {
	init, err := guestInit(k.Arch)
	if err != nil {
		return "", err
	}
	return BuildInitramfs(k, init)
}

// BuildInitramfs is [Kernel.Initramfs] with the contents of another /init.
func BuildInitramfs(k *Kernel, init []byte) (string, error) {
	image, err := k.initramfs(init)
	if err != nil {
		return "", err
	}
	// Named after its content: what is there under this name is this image,
	// unless it was cut short.
	sum := sha256.Sum256(image)
	path := filepath.Join(k.Dir, "initramfs-"+hex.EncodeToString(sum[:])+".cpio")
	if st, err := os.Stat(path); err == nil && st.Size() == int64(len(image)) {
		return path, nil
	}
	k.removeOldInitramfs()
	if err := renameio.WriteFile(path, image, 0o644); err != nil {
		return "", fmt.Errorf("cannot write the initramfs: %w", err)
	}
	return path, nil
}

func (k *Kernel) initramfs(init []byte) ([]byte, error) {
	var a archive
	for _, dir := range []string{"dev", "proc", "sys", "newroot", "modules"} {
		a.add(dir, modeDir|0o755, 0, 0, nil)
	}
	a.add("dev/console", modeChar|0o600, 5, 1, nil)
	a.add("init", modeRegular|0o755, 0, 0, init)
	var order strings.Builder
	for _, name := range k.record.Boot {
		ko, err := os.ReadFile(filepath.Join(k.Dir, dirBoot, name))
		if err != nil {
			return nil, &CorruptError{filepath.Join(k.Dir, dirBoot, name), err.Error()}
		}
		a.add("modules/"+name, modeRegular|0o644, 0, 0, ko)
		order.WriteString(name + "\n")
	}
	a.add("modules/load", modeRegular|0o644, 0, 0, []byte(order.String()))
	return a.close(), nil
}

func (k *Kernel) initramfsFiles() []string {
	found, _ := filepath.Glob(filepath.Join(k.Dir, "initramfs-*.cpio")) // the pattern is right
	return found
}

func (k *Kernel) removeOldInitramfs() {
	for _, f := range k.initramfsFiles() {
		if st, err := os.Stat(f); err == nil && time.Since(st.ModTime()) > initramfsMaxAge {
			os.Remove(f)
		}
	}
}

func (k *Kernel) verifyInitramfs(ctx context.Context) error {
	for _, path := range k.initramfsFiles() {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := describe(path)
		if err != nil {
			return &CorruptError{path, err.Error()}
		}
		if filepath.Base(path) != "initramfs-"+f.SHA256+".cpio" {
			return &CorruptError{path, "its checksum is wrong"}
		}
	}
	return nil
}

// Types of files in a mode, as in stat(2).
const (
	modeRegular = 0o100000
	modeDir     = 0o040000
	modeChar    = 0o020000
)

// archive writes the "newc" format of cpio, after the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst. The package of
// that name has no device numbers. All belongs to root and is of 1970, so that
// the same files give the same bytes.
type archive struct {
	buf  bytes.Buffer
	last int // inode number
}

func (a *archive) add(name string, mode, major, minor int, data []byte) {
	a.last++
	links := 1
	fmt.Fprintf(&a.buf, "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		a.last, mode, 0, 0, links, 0, len(data), 0, 0, major, minor, len(name)+1, 0)
	a.buf.WriteString(name + "\x00")
	a.pad()
	a.buf.Write(data)
	a.pad()
}

func (a *archive) pad() {
	for a.buf.Len()%4 != 0 {
		a.buf.WriteByte(0)
	}
}

func (a *archive) close() []byte {
	a.add("TRAILER!!!", 0, 0, 0, nil)
	return a.buf.Bytes()
}
