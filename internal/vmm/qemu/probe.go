package qemu

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sbx/internal/vmm"
)

// Banner is what the guest's first program prints on the console when it waits
// for orders. The probe takes it as the proof that the guest works.
const Banner = "sbx-init: ready"

// probeTime is how long a probe guest may take. Where KVM works it is up well
// within a second; where a host emulates it behind our back, it takes minutes.
const probeTime = 5 * time.Second

// Verdict tells whether KVM can be used, and if not, why and what to do.
type Verdict struct {
	Usable bool   `json:"usable"`
	Reason string `json:"reason,omitempty"` // empty when usable
}

// Probe finds out whether KVM truly works, by booting kernel and initrd under
// it. That /dev/kvm opens proves nothing: some hosts accept a machine and then
// abort or emulate it. It takes five seconds at most.
func Probe(ctx context.Context, inst *Installation, kernel, initrd string) Verdict {
	if err := checkDevice(); err != nil {
		return Verdict{Reason: err.Error()}
	}
	if err := bootProbe(ctx, inst, kernel, initrd); err != nil {
		return Verdict{Reason: "KVM does not work here, a probe guest failed: " + err.Error()}
	}
	return Verdict{Usable: true}
}

func bootProbe(ctx context.Context, inst *Installation, kernel, initrd string) error {
	dir, err := os.MkdirTemp("", "sbx-probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	seen := &watcher{want: []byte(Banner), found: make(chan struct{})}
	m, err := New(inst).start(ctx, vmm.Config{
		Name: "probe", Dir: dir, Kernel: kernel, Initrd: initrd,
		CPUs: 2, Memory: 256 << 20, Console: seen, Accel: vmm.KVM,
	})
	if err != nil {
		return err
	}
	defer m.Kill()
	select {
	case <-seen.found:
		return nil
	case <-m.Done():
		if err := m.Err(); err != nil {
			return err
		}
		return errors.New("it powered off")
	case <-ctx.Done():
		return fmt.Errorf("it was not up within %v; the host seems to emulate what KVM should run", probeTime)
	}
}

// watcher closes found when want has passed by.
type watcher struct {
	want  []byte
	found chan struct{}
	once  sync.Once
	tail  []byte
}

func (w *watcher) Write(p []byte) (int, error) {
	w.tail = append(w.tail, p...)
	if bytes.Contains(w.tail, w.want) {
		w.once.Do(func() { close(w.found) })
	}
	if over := len(w.tail) - len(w.want); over > 0 {
		w.tail = append(w.tail[:0], w.tail[over:]...)
	}
	return len(p), nil
}

// verdictFile in the cache directory holds a remembered.
const verdictFile = "kvm-verdict.json"

// remembered is a verdict and the host that it holds for.
type remembered struct {
	Host string `json:"host"`
	Verdict
}

// ProbeCached is Probe, done once per host kernel and QEMU version: cacheDir,
// which must exist, remembers the verdict. Whether /dev/kvm is there and may be
// opened is looked at every time.
func ProbeCached(ctx context.Context, cacheDir string, inst *Installation, kernel, initrd string) Verdict {
	if err := checkDevice(); err != nil {
		return Verdict{Reason: err.Error()}
	}
	path := filepath.Join(cacheDir, verdictFile)
	host := hostKernel() + ", QEMU " + inst.Version.String()
	if v, ok := recall(path, host); ok {
		return v
	}
	v := Probe(ctx, inst, kernel, initrd)
	if ctx.Err() == nil {
		remember(path, host, v)
	}
	return v
}

// ForgetVerdict makes the next ProbeCached probe again.
func ForgetVerdict(cacheDir string) error {
	err := os.Remove(filepath.Join(cacheDir, verdictFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func recall(path, host string) (Verdict, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Verdict{}, false
	}
	var r remembered
	if err := json.Unmarshal(b, &r); err != nil || r.Host != host {
		return Verdict{}, false
	}
	return r.Verdict, true
}

// remember is only a saving: when it fails, the next one probes again.
func remember(path, host string, v Verdict) {
	b, err := json.Marshal(remembered{host, v})
	if err != nil {
		return
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+verdictFile+".*")
	if err != nil {
		return
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(append(b, '\n'))
	if err = errors.Join(err, tmp.Close()); err == nil {
		_ = os.Rename(tmp.Name(), path)
	}
}
