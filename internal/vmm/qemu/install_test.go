package qemu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for out, want := range map[string]Version{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright": {7, 2, 22},
		"QEMU emulator version 10.0.2 (Debian)":                         {10, 0, 2},
		"QEMU emulator version 8.2":                                     {8, 2, 0},
		"QEMU emulator version 9.1.50 (v9.1.0-100-g1234)":               {9, 1, 50},
	} {
		if got, err := parseVersion(out); err != nil || got != want {
			t.Errorf("%q: %v, %v", out, got, err)
		}
	}
	for _, out := range []string{"", "bash 5.2", "QEMU emulator version", "QEMU emulator version 99999999999999999999.1"} {
		if v, err := parseVersion(out); err == nil {
			t.Errorf("%q is taken for %v", out, v)
		}
	}
}

func TestBefore(t *testing.T) {
	ascending := []Version{{6, 9, 9}, {7, 2, 0}, {7, 2, 1}, {7, 3, 0}, {10, 0, 0}}
	for i, v := range ascending {
		for j, w := range ascending {
			if v.Before(w) != (i < j) {
				t.Errorf("%v before %v: %v", v, w, v.Before(w))
			}
		}
	}
}

// fakeQEMU makes an installation below a directory of its own.
func fakeQEMU(t *testing.T, script string) (binary string) {
	t.Helper()
	root := t.TempDir()
	for path, text := range map[string]string{
		"bin/qemu": "#!/bin/sh\n" + script, "bin/qemu-img": "#!/bin/sh\n", "share/qemu/qboot.rom": "rom",
	} {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(root, "bin/qemu")
}

func TestFind(t *testing.T) {
	binary := fakeQEMU(t, "echo QEMU emulator version 9.1.0")
	inst, err := Find(t.Context(), binary)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(filepath.Dir(binary))
	if inst.Binary != binary || inst.Image != binary+"-img" || inst.Version != (Version{9, 1, 0}) {
		t.Errorf("found %+v", inst)
	}
	if inst.Firmware != "" && inst.Firmware != filepath.Join(root, "share/qemu/qboot.rom") {
		t.Errorf("found the firmware %s", inst.Firmware)
	}
}

func TestFindSaysWhatIsMissing(t *testing.T) {
	for name, test := range map[string]struct {
		binary string
		is     error
		want   string
	}{
		"nothing": {filepath.Join(t.TempDir(), "qemu"), ErrNotInstalled, "sbx setup"},
		"old":     {fakeQEMU(t, "echo QEMU emulator version 6.2.0"), ErrTooOld, "version 6.2.0, but 7.2 or newer"},
		"other":   {fakeQEMU(t, "echo hello"), nil, "is not qemu"},
		"broken":  {fakeQEMU(t, "exit 1"), nil, "exit status 1"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Find(t.Context(), test.binary)
			if err == nil || !strings.Contains(err.Error(), test.want) || (test.is != nil && !errors.Is(err, test.is)) {
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("PATH", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		if _, err := Find(t.Context(), ""); !errors.Is(err, ErrNotInstalled) {
			t.Errorf("got %v", err)
		}
	})
}

func ExampleVersion() {
	fmt.Println(Oldest)
	// Output: 7.2.0
}
