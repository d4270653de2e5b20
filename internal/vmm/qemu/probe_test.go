package qemu

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerdictIsRememberedPerHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), verdictFile)
	want := Verdict{Usable: false, Reason: "because"}
	if _, ok := recall(path, "host"); ok {
		t.Error("recalled from nowhere")
	}
	remember(path, "host", want)
	if got, ok := recall(path, "host"); !ok || got != want {
		t.Errorf("recalled %+v, %v", got, ok)
	}
	if _, ok := recall(path, "other host"); ok {
		t.Error("recalled for another host")
	}
	if err := os.WriteFile(path, []byte("{half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, ok := recall(path, "host"); ok {
		t.Error("recalled from a damaged file")
	}
	for range 2 {
		if err := ForgetVerdict(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("not forgotten")
	}
}

// Whatever this host can do, a QEMU that aborts means that KVM is not usable.
func TestProbeOfAHostThatAborts(t *testing.T) {
	inst := &Installation{Binary: fakeQEMU(t, "echo 'qemu: failed to set MSR 0x10a' >&2; kill -ABRT $$")}
	v := Probe(t.Context(), inst, "/dev/null", "/dev/null")
	if v.Usable {
		t.Fatal("KVM counts as usable")
	}
	if !strings.Contains(v.Reason, "/dev/kvm") && !strings.Contains(v.Reason, "failed to set MSR 0x10a") {
		t.Errorf("reason is %q", v.Reason)
	}
}

func TestWatcherFindsWhatComesInPieces(t *testing.T) {
	w := &watcher{want: []byte("ready"), found: make(chan struct{})}
	for _, part := range []string{"re", "area", "d", "y", " ready"} {
		if _, err := w.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-w.found:
	default:
		t.Error("not found")
	}
}
