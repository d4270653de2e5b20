package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sbx/internal/debian"
)

// cacheWithKernel returns a cache with the default kernel in it: the one that
// SBX_TEST_CACHE names, else a temporary one. It is fetched where it is
// missing, which needs the network once.
func cacheWithKernel(t *testing.T) (string, *Kernel) {
	t.Helper()
	cache := os.Getenv("SBX_TEST_CACHE")
	if cache == "" {
		if testing.Short() {
			t.Skip("needs the network, or a prepared kernel in the cache that SBX_TEST_CACHE names")
		}
		cache = t.TempDir()
	}
	if k, err := Open(cache); err == nil {
		return cache, k
	}
	m, err := debian.HostMirror(t.Context())
	if err != nil {
		t.Skip("no Debian mirror here:", err)
	}
	k, err := Fetch(t.Context(), cache, m, func(stage string, done, total int64) {
		t.Logf("%s %d/%d", stage, done, total)
	})
	if err != nil {
		t.Fatal(err)
	}
	return cache, k
}

func TestFetch(t *testing.T) {
	cache, k := cacheWithKernel(t)
	if err := k.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(k.ModulesImage()); err != nil {
		t.Error(err)
	}
	if len(k.Missing) > 0 || len(k.BootModules()) == 0 {
		t.Errorf("missing %q, boot modules %q", k.Missing, k.BootModules())
	}
	t.Logf("%+v", k)

	t.Run("a repeat needs no network", func(t *testing.T) {
		again, err := Fetch(t.Context(), cache, debian.Mirror{URI: "http://127.0.0.1:1/debian"}, nil)
		if err != nil || again.ID != k.ID {
			t.Fatal(again, err)
		}
	})
	t.Run("nothing unfinished is left", func(t *testing.T) {
		if os.Getenv("SBX_TEST_CACHE") != "" {
			t.Skip("others may be at work in this cache")
		}
		left, _ := filepath.Glob(filepath.Join(kernelsDir(cache), tmpPrefix+"*"))
		if len(left) > 0 {
			t.Error(left)
		}
	})
	t.Run("an unreachable mirror leaves nothing behind", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		cache := t.TempDir()
		if _, err := Fetch(ctx, cache, debian.Mirror{URI: "http://127.0.0.1:1/debian"}, func(string, int64, int64) {}); err == nil {
			t.Fatal("it worked")
		}
		if _, err := Open(cache); !errors.Is(err, ErrNone) {
			t.Error(err)
		}
	})
}
