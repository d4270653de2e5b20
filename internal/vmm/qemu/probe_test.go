package qemu

import (
	"errors"
	"os"
	"path/filepath"
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

// Whatever this host can do: a monitor that gives up (here this test binary,
// which does not know QEMU's options) means that KVM is not usable.
func TestProbeWithAMonitorThatGivesUp(t *testing.T) {
	v := Probe(t.Context(), &Installation{Binary: os.Args[0]}, "/dev/null", "/dev/null")
	if v.Usable || v.Reason == "" {
		t.Errorf("verdict is %+v", v)
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
