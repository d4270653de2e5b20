package template

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sbx/internal/debian"
	"sbx/internal/progress"
)

// tiny is a recipe that goes the whole way in seconds.
func tiny(t *testing.T) recipe {
	t.Helper()
	cacheOfTests(t)
	m, err := debian.HostMirror(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return recipe{
		name: "tiny", suite: debianSuite, mirror: m, variant: "custom",
		packages: []string{"base-files", "base-passwd", "coreutils", "dash", "debconf", "diffutils", "dpkg", "findutils",
			"grep", "libc-bin", "libpam-runtime", "perl-base", "sed", "tar"},
		customize: `set -e; : > "$1/customized"; chown 1000:1001 "$1/customized"; chmod 4711 "$1/customized"`,
	}
}

// scratches redirects the scratch directories of builds and returns a
// function that lists them.
func scratches(t *testing.T) func() []string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "sbx-test-") // t.TempDir is closed to the build's root user
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Setenv("TMPDIR", dir)
	return func() []string {
		found, _ := filepath.Glob(filepath.Join(dir, "sbx-build-*"))
		return found
	}
}

func TestBuild(t *testing.T) {
	r := tiny(t)
	left := scratches(t)
	cache := t.TempDir()
	var wg sync.WaitGroup
	var got [2]*Template
	var errs [2]error
	for i := range got {
		wg.Add(1)
		go func() {
			defer wg.Done()
			got[i], errs[i] = build(t.Context(), cache, r, progress.Discard)
		}()
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	if got[0].ID != got[1].ID || !got[0].Created.Equal(got[1].Created) {
		t.Errorf("two builds at once made two templates: %+v and %+v", got[0], got[1])
	}
	if out, err := exec.Command("e2fsck", "-fn", got[0].Image).CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	for command, want := range map[string]string{
		"stat /customized":   "Mode:  04711",
		"stat customized":    "User:  1000   Group:  1001",
		"stat /usr/bin/dash": "User:     0   Group:     0",
	} {
		if out := debugfs(t, got[0].Image, command); !strings.Contains(out, want) {
			t.Errorf("%s: no %q in\n%.500s", command, want, out)
		}
	}
	nothingLeft(t, cache, left)
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	r := tiny(t)
	left := scratches(t)
	cache := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := build(ctx, cache, r, func(stage string, _, _ int64) {
		if stage == stageInstall {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
	nothingLeft(t, cache, left)
	if _, err := Open(cache, r.name); !errors.Is(err, ErrNotFound) {
		t.Errorf("there is a template after all: %v", err)
	}
}

func TestFailedBuildSaysWhy(t *testing.T) {
	r := tiny(t)
	left := scratches(t)
	cache := t.TempDir()
	r.packages = []string{"no-such-package-as-this"}
	_, err := build(t.Context(), cache, r, progress.Discard)
	if err == nil || !strings.Contains(err.Error(), "no-such-package-as-this") {
		t.Errorf("error %v", err)
	}
	nothingLeft(t, cache, left)
}

func nothingLeft(t *testing.T, cache string, scratches func() []string) {
	t.Helper()
	if left := scratches(); len(left) > 0 {
		t.Errorf("scratch directories left: %v", left)
	}
	if left, _ := os.ReadDir(storeOf(cache).tmp()); len(left) > 0 {
		t.Errorf("left in the cache: %v", left)
	}
}
