// Package kernel prepares the Linux kernel that guests boot, and keeps it.
//
// Start with [Open], which every start of a sandbox calls and which is cheap.
// Where it answers [ErrNone], [Fetch] makes the default kernel out of Debian's
// cloud kernel; [FromFile] takes one of the user's own. A prepared [Kernel] is
// a directory of plain files: the kernel in the form that a virtual machine
// monitor starts directly, the few modules that a guest needs to boot, and a
// file system image with all of them.
//
// # What it promises
//
// A kernel's directory appears complete, by one rename, or not at all. It is
// named after its content and never changes, so that a running guest and a new
// one may share it. Any number of processes may prepare kernels at once. What
// an interrupted run left is removed by the next one. A file that was damaged
// since is reported as a [CorruptError], and [Fetch] replaces it.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// ErrNone says that no kernel has been prepared.
var ErrNone = errors.New("no kernel is prepared yet; run `sbx setup`")

// CorruptError says that a file of a prepared kernel is missing or differs
// from what was prepared.
type CorruptError struct {
	File   string
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("the kernel's file %s is damaged (%s); run `sbx setup`, or give your own kernel once more, to prepare it again", e.File, e.Reason)
}

// Kernel is one prepared kernel.
type Kernel struct {
	ID      string // hash of its content, short, hex
	Release string // uname -r
	Arch    string // GOARCH of the guest
	Source  string // where it came from, for people
	Dir     string
	// Missing names what this kernel has neither built in nor as a module and
	// sbx can do without, such as "virtio_balloon".
	Missing []string

	record record
}

// The files of a kernel's directory.
const (
	fileVmlinux = "vmlinux"
	fileModules = "modules.img"
	fileRecord  = "kernel.json"
	dirBoot     = "boot"
)

// Vmlinux is the path of the kernel: on amd64 an uncompressed ELF with a PVH
// entry, on arm64 an uncompressed Image.
func (k *Kernel) Vmlinux() string { return filepath.Join(k.Dir, fileVmlinux) }

// ModulesImage is the path of a read-only ext4 image with the contents of
// /usr/lib/modules/RELEASE at its root, or "" for a kernel without modules.
func (k *Kernel) ModulesImage() string {
	if _, ok := k.record.Files[fileModules]; !ok {
		return ""
	}
	return filepath.Join(k.Dir, fileModules)
}

// BootModules names the modules that the initramfs loads, in load order.
func (k *Kernel) BootModules() []string { return k.record.Boot }

func kernelsDir(cache string) string { return filepath.Join(cache, "kernels") }

var validID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// Open returns the default kernel. It checks sizes and times of its files, and
// their checksums only where those have changed.
func Open(cache string) (*Kernel, error) {
	name := filepath.Join(kernelsDir(cache), "default")
	data, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNone
	}
	if err != nil {
		return nil, fmt.Errorf("cannot tell the default kernel: %w", err)
	}
	id := strings.TrimSpace(string(data))
	if !validID.MatchString(id) {
		return nil, &CorruptError{name, "it names no kernel"}
	}
	return OpenID(cache, id)
}

// OpenID returns the kernel with this ID, checked as by [Open].
func OpenID(cache, id string) (*Kernel, error) {
	if !validID.MatchString(id) {
		return nil, fmt.Errorf("%q is not the ID of a kernel", id)
	}
	k, err := load(filepath.Join(kernelsDir(cache), id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("kernel %s is not in %s: %w", id, kernelsDir(cache), ErrNone)
	}
	if err != nil {
		return nil, err
	}
	if err := k.check(); err != nil {
		return nil, err
	}
	return k, nil
}

// SetDefault makes the kernel with this ID what [Open] returns.
func SetDefault(ctx context.Context, cache, id string) error {
	k, err := OpenID(cache, id)
	if err != nil {
		return err
	}
	w, err := openWorkshop(ctx, cache)
	if err != nil {
		return err
	}
	defer w.close()
	return w.setDefault(k)
}

// List returns all prepared kernels, without checking their files.
func List(cache string) ([]*Kernel, error) {
	entries, err := os.ReadDir(kernelsDir(cache))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the kernels: %w", err)
	}
	var all []*Kernel
	for _, e := range entries {
		if !validID.MatchString(e.Name()) {
			continue
		}
		if k, err := load(filepath.Join(kernelsDir(cache), e.Name())); err == nil {
			all = append(all, k)
		}
	}
	return all, nil
}

// Verify compares the checksum of every file, which takes a while.
func (k *Kernel) Verify(ctx context.Context) error {
	if id := k.record.id(); id != filepath.Base(k.Dir) {
		return &CorruptError{filepath.Join(k.Dir, fileRecord), "it describes another kernel, " + id}
	}
	for name, f := range k.record.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := f.verify(filepath.Join(k.Dir, name)); err != nil {
			return err
		}
	}
	return k.verifyInitramfs(ctx)
}
