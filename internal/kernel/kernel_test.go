package kernel

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
)

// prepared returns a cache with a synthetic kernel as its default.
func prepared(t *testing.T) (cache string, k *Kernel) {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("the synthetic kernel is for amd64")
	}
	cache = t.TempDir()
	k, err := FromFile(t.Context(), cache, kernelFile(t), modulesDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := SetDefault(t.Context(), cache, k.ID); err != nil {
		t.Fatal(err)
	}
	return cache, k
}

func kernelFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "vmlinux")
	if err := os.WriteFile(file, vmlinux(), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPreparedKernel(t *testing.T) {
	cache, k := prepared(t)
	got, err := Open(cache)
	if err != nil {
		t.Fatal(err)
	}
	if got.ID != k.ID || got.Release != testRelease || got.ModulesImage() == "" {
		t.Errorf("got %+v", got)
	}
	if err := got.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if list, err := List(cache); err != nil || len(list) != 1 || list[0].ID != k.ID {
		t.Error(list, err)
	}
	if fsck, err := exec.LookPath("e2fsck"); err == nil {
		if out, err := exec.Command(fsck, "-fn", got.ModulesImage()).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}

func TestNoKernel(t *testing.T) {
	cache := t.TempDir()
	if _, err := Open(cache); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if _, err := OpenID(cache, "0123456789abcdef"); !errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if _, err := OpenID(cache, "../../etc"); err == nil || errors.Is(err, ErrNone) {
		t.Error(err)
	}
	if list, err := List(cache); err != nil || list != nil {
		t.Error(list, err)
	}
}

func TestDamage(t *testing.T) {
	tests := []struct {
		name   string
		damage func(cache string, k *Kernel) error
		file   string // "" when it shall be noticed by Verify alone
	}{
		{"a file cut short", func(_ string, k *Kernel) error { return os.Truncate(k.Vmlinux(), 100) }, fileVmlinux},
		{"a file removed", func(_ string, k *Kernel) error { return os.Remove(k.ModulesImage()) }, fileModules},
		{"contents changed", func(_ string, k *Kernel) error { return flip(k.Vmlinux(), time.Now()) }, fileVmlinux},
		{"contents changed behind the clock's back", func(_ string, k *Kernel) error {
			return flip(k.Vmlinux(), time.Unix(0, k.record.Files[fileVmlinux].MTime))
		}, ""},
		{"the record is junk", func(_ string, k *Kernel) error {
			return os.WriteFile(filepath.Join(k.Dir, fileRecord), []byte("{"), 0o644)
		}, fileRecord},
		{"the record is empty", func(_ string, k *Kernel) error {
			return os.WriteFile(filepath.Join(k.Dir, fileRecord), []byte(`{"version":1}`), 0o644)
		}, fileRecord},
		{"the record is gone", func(_ string, k *Kernel) error { return os.Remove(filepath.Join(k.Dir, fileRecord)) }, fileRecord},
		{"the name of the default is junk", func(cache string, _ *Kernel) error {
			return os.WriteFile(filepath.Join(kernelsDir(cache), "default"), []byte("../x"), 0o644)
		}, "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cache, k := prepared(t)
			if err := tt.damage(cache, k); err != nil {
				t.Fatal(err)
			}
			opened, err := Open(cache)
			if tt.file == "" {
				if err != nil {
					t.Fatal(err)
				}
				err = opened.Verify(t.Context())
				tt.file = fileVmlinux
			}
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || filepath.Base(corrupt.File) != tt.file || !strings.Contains(err.Error(), "sbx setup") {
				t.Fatalf("got %v", err)
			}
			if tt.file == "default" {
				return
			}
			again, err := FromFile(t.Context(), cache, kernelFile(t), modulesDir(t))
			if err != nil || again.ID != k.ID {
				t.Fatal(again, err)
			}
			if _, err := Open(cache); err != nil {
				t.Error("after preparing it again:", err)
			}
		})
	}
}

// flip changes a byte of a file and then sets its time.
func flip(path string, mtime time.Time) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	data[len(data)/2] ^= 1
	return errors.Join(os.WriteFile(path, data, 0o644), os.Chtimes(path, mtime, mtime))
}

func TestCopiedCache(t *testing.T) {
	cache, k := prepared(t)
	if err := os.Chtimes(k.Vmlinux(), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cache); err != nil {
		t.Fatal(err)
	}
	if again, err := load(k.Dir); err != nil || again.record.Files[fileVmlinux].MTime != time.Unix(1, 0).UnixNano() {
		t.Error("the new time was not recorded:", err)
	}
}

func TestManyPrepareAtOnce(t *testing.T) {
	cache, k := prepared(t)
	// What a killed run left is removed; the kernel of the same files is found.
	left := filepath.Join(kernelsDir(cache), tmpPrefix+"left")
	if err := os.MkdirAll(filepath.Join(left, "out"), 0o700); err != nil {
		t.Fatal(err)
	}
	file, modules := kernelFile(t), modulesDir(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := FromFile(t.Context(), cache, file, modules); err != nil || got.ID != k.ID {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(kernelsDir(cache), tmpPrefix+"*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
}

func TestRepeatIsCheap(t *testing.T) {
	cache, k := prepared(t)
	file, modules := kernelFile(t), modulesDir(t)
	if _, err := FromFile(t.Context(), cache, file, ""); err != nil { // another kernel
		t.Fatal(err)
	}
	other, err := FromFile(t.Context(), t.TempDir(), file, modules)
	if err != nil || other.ID != k.ID {
		t.Fatalf("the ID depends on more than the content: %v, %v", other, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := FromFile(ctx, filepath.Dir(filepath.Dir(other.Dir)), file, modules); err != nil {
		t.Error("the same files were worked through again:", err)
	}
}

func TestOwnKernelErrors(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the synthetic kernel is for amd64")
	}
	file, modules := kernelFile(t), modulesDir(t)
	elsewhere := filepath.Join(filepath.Dir(modules), "6.1.0-other")
	if err := os.Rename(modules, elsewhere); err != nil {
		t.Fatal(err)
	}
	bad := modulesDir(t)
	if err := os.Remove(filepath.Join(bad, "kernel/drivers/block/virtio_blk.ko")); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, file, modules, want string }{
		{"no file", file + ".missing", "", "no such file"},
		{"a directory", filepath.Dir(file), "", "not a file"},
		{"not a kernel", filepath.Join(bad, "modules.order"), "", "too short"},
		{"no modules directory", file, file + ".missing", "no such file"},
		{"a directory of something else", file, filepath.Join(bad, "kernel"), "not a directory of modules"},
		{"modules of another release", file, elsewhere, "its modules are for 6.1.0-other"},
		{"a required module is missing", file, bad, "has no virtio_blk"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cache := t.TempDir()
			_, err := FromFile(t.Context(), cache, tt.file, tt.modules)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if left, _ := filepath.Glob(filepath.Join(kernelsDir(cache), tmpPrefix+"*")); len(left) > 0 {
				t.Error("left behind:", left)
			}
		})
	}
}

func TestInitramfs(t *testing.T) {
	_, k := prepared(t)
	path, err := BuildInitramfs(k, []byte("the init"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := BuildInitramfs(k, []byte("the init")); err != nil || again != path {
		t.Error(again, err)
	}
	if other, err := BuildInitramfs(k, []byte("another")); err != nil || other == path {
		t.Error(other, err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := cpio.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(body)
		if h.Name == "init" && h.Mode != modeRegular|0o755 {
			t.Errorf("the mode of /init is %o", h.Mode)
		}
		if h.Name == "dev/console" && h.Mode != modeChar|0o600 {
			t.Errorf("the mode of /dev/console is %o", h.Mode)
		}
	}
	if got["init"] != "the init" {
		t.Errorf("/init is %q", got["init"])
	}
	const load = "virtio_ring.ko\nvirtio_pci.ko\nvirtio_console.ko\nvirtio_blk.ko\ncrc32c_generic.ko\njbd2.ko\next4.ko\nfuse.ko\nvirtiofs.ko\nvirtio_balloon.ko\nrng_core.ko\nvirtio_rng.ko\n"
	if got["modules/load"] != load {
		t.Errorf("/modules/load is %q", got["modules/load"])
	}
	for name := range strings.Lines(load) {
		if !strings.HasPrefix(got["modules/"+strings.TrimSpace(name)], "\x7fELF") {
			t.Errorf("%s is not a module", name)
		}
	}
	t.Run("damage", func(t *testing.T) {
		if err := k.Verify(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := flip(path, time.Now()); err != nil {
			t.Fatal(err)
		}
		if err := k.Verify(t.Context()); err == nil {
			t.Error("not noticed")
		}
		if err := os.Truncate(path, 10); err != nil {
			t.Fatal(err)
		}
		if _, err := BuildInitramfs(k, []byte("the init")); err != nil {
			t.Fatal(err)
		}
		if now, _ := os.ReadFile(path); !bytes.Equal(now, data) {
			t.Error("it was not made again")
		}
	})
}
