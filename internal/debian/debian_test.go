package debian

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sbx/internal/progress"
)

// TestDownload fetches a small package from the mirror of this machine.
func TestDownload(t *testing.T) {
	if testing.Short() {
		t.Skip("needs the network")
	}
	ctx := t.Context()
	m, err := HostMirror(ctx)
	if err != nil {
		t.Skip("no Debian mirror here:", err)
	}
	dir := filepath.Join(t.TempDir(), "with space")
	w, err := Open(ctx, dir, m, "trixie")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := w.Resolve(ctx, "hello"); err == nil {
		t.Error("a world without lists knew a package")
	}
	if err := w.Update(ctx); err != nil {
		t.Skip("the mirror cannot be reached:", err)
	}
	var last, total int64
	deb, err := w.Download(ctx, "hello", func(_ string, d, n int64) { last, total = d, n })
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(deb); err != nil || st.Size() != total || last != total {
		t.Errorf("the file has %v, progress ended at %d of %d", st, last, total)
	}
	name, version, err := w.Resolve(ctx, "linux-image-cloud-"+Arch())
	if err != nil || !strings.HasPrefix(name, "linux-image-") || strings.HasPrefix(name, "linux-image-cloud-") || version == "" {
		t.Errorf("the meta package leads to %q %q, %v", name, version, err)
	}
	if _, _, err := w.Resolve(ctx, "no-such-package-here"); err == nil || !strings.Contains(err.Error(), "has no package") {
		t.Errorf("a package that isn't there: %v", err)
	}
	t.Run("a damaged file is fetched anew", func(t *testing.T) {
		if err := os.WriteFile(deb, []byte("damaged"), 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := w.Download(ctx, "hello", progress.Discard); err != nil || again != deb {
			t.Fatal(again, err)
		}
	})
	t.Run("a cached file needs no network", func(t *testing.T) {
		off, err := Open(ctx, dir, Mirror{URI: "http://127.0.0.1:1/debian"}, "trixie")
		if err != nil {
			t.Fatal(err)
		}
		if err := off.Update(ctx); err == nil || !strings.Contains(err.Error(), "cannot reach the mirror") {
			t.Errorf("an unreachable mirror: %v", err)
		}
		on, err := Open(ctx, dir, m, "trixie")
		if err != nil {
			t.Fatal(err)
		}
		st, _ := os.Stat(deb)
		if _, err := on.Download(ctx, "hello", progress.Discard); err != nil {
			t.Error("after a failed update:", err)
		}
		if now, _ := os.Stat(deb); !os.SameFile(st, now) {
			t.Error("the file was fetched again")
		}
	})
	t.Run("an archive signed by others is refused", func(t *testing.T) {
		keys := filepath.Join(t.TempDir(), "others.gpg")
		if err := os.WriteFile(keys, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := Open(ctx, t.TempDir(), Mirror{URI: m.URI, Keyring: keys}, "trixie")
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Update(ctx); err == nil || !strings.Contains(err.Error(), "cannot verify the mirror") {
			t.Errorf("got %v", err)
		}
		if _, _, err := w.Resolve(ctx, "hello"); err == nil {
			t.Error("its packages are known all the same")
		}
	})
	t.Run("an end on request", func(t *testing.T) {
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		if err := w.Update(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}
