package template

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// publish makes a template with some content in a new or existing cache.
func publish(t *testing.T, cache, name, content string) *Template {
	t.Helper()
	s := storeOf(cache)
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(s.tmp(), "test-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, imageFile), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	tpl, err := s.publish(t.Context(), dir, name, record{Source: "a test", Recipe: "r"})
	if err != nil {
		t.Fatal(err)
	}
	return tpl
}

func unused(string) []string { return nil }

func TestOpenByNameAndID(t *testing.T) {
	cache := t.TempDir()
	want := publish(t, cache, "one", "content")
	for _, ref := range []string{"one", want.ID, want.ID[:8]} {
		got, err := Open(cache, ref)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if got.ID != want.ID || got.Image != want.Image || got.Size != 7 || got.Source != "a test" || got.Created.IsZero() {
			t.Errorf("%s: %+v", ref, got)
		}
	}
	for _, ref := range []string{"two", "", "../one", "one/..", want.ID[:7], strings.Repeat("0", 64), "ONE"} {
		if _, err := Open(cache, ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%q: error %v, want %v", ref, err, ErrNotFound)
		}
	}
	if _, err := Open(t.TempDir(), "one"); !errors.Is(err, ErrNotFound) {
		t.Errorf("empty cache: error %v", err)
	}
	st, err := os.Stat(want.Image)
	if err != nil || st.Mode().Perm() != 0o444 {
		t.Errorf("image: mode %v, error %v", st.Mode(), err)
	}
	if left, _ := os.ReadDir(storeOf(cache).tmp()); len(left) > 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestOpenNoticesDamage(t *testing.T) {
	image := func(tpl *Template) string { return tpl.Image }
	tests := []struct {
		name   string
		damage func(tpl *Template) error
		file   func(tpl *Template) string
	}{
		{"image truncated", func(tpl *Template) error {
			return errors.Join(os.Chmod(tpl.Image, 0o644), os.Truncate(tpl.Image, 3))
		}, image},
		{"image rewritten", func(tpl *Template) error {
			return errors.Join(os.Remove(tpl.Image), os.WriteFile(tpl.Image, []byte("CONTENT"), 0o444))
		}, image},
		{"image missing", func(tpl *Template) error { return os.Remove(tpl.Image) }, image},
		{"image is a directory", func(tpl *Template) error {
			return errors.Join(os.Remove(tpl.Image), os.Mkdir(tpl.Image, 0o755))
		}, image},
		{"record missing", func(tpl *Template) error { return os.Remove(recordOf(tpl)) }, recordOf},
		{"record garbled", func(tpl *Template) error { return os.WriteFile(recordOf(tpl), []byte("{"), 0o644) }, recordOf},
		{"record of another version", func(tpl *Template) error {
			return os.WriteFile(recordOf(tpl), []byte(`{"version":99,"size":7}`), 0o644)
		}, recordOf},
		{"directory missing", func(tpl *Template) error { return os.RemoveAll(filepath.Dir(tpl.Image)) }, recordOf},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cache := t.TempDir()
			tpl := publish(t, cache, "one", "content")
			if err := tt.damage(tpl); err != nil {
				t.Fatal(err)
			}
			_, err := Open(cache, "one")
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.File != tt.file(tpl) || !strings.Contains(err.Error(), "sbx setup") {
				t.Errorf("error %v", err)
			}
			if err := Remove(cache, "one", unused); err != nil {
				t.Errorf("can't remove it: %v", err)
			}
			if again := publish(t, cache, "one", "content"); again.ID != tpl.ID {
				t.Errorf("made anew it is %s, was %s", again.ID, tpl.ID)
			}
		})
	}
}

func recordOf(tpl *Template) string { return filepath.Join(filepath.Dir(tpl.Image), recordFile) }

func TestOpenAcceptsACopy(t *testing.T) {
	cache := t.TempDir()
	tpl := publish(t, cache, "one", "content")
	then := time.Now().Add(-time.Hour)
	if err := os.Chtimes(tpl.Image, then, then); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(recordOf(tpl))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cache, "one"); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.ReadFile(recordOf(tpl)); string(after) == string(before) {
		t.Error("the new time was not recorded: every Open computes the checksum")
	}
}

func TestVerifyReadsEverything(t *testing.T) {
	cache := t.TempDir()
	tpl := publish(t, cache, "one", "content")
	if err := tpl.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(tpl.Image)
	if err != nil {
		t.Fatal(err)
	}
	// Size and time are as recorded: Open sees nothing.
	err = errors.Join(os.Chmod(tpl.Image, 0o644), os.WriteFile(tpl.Image, []byte("CONTENT"), 0),
		os.Chtimes(tpl.Image, st.ModTime(), st.ModTime()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cache, "one"); err != nil {
		t.Errorf("Open: %v", err)
	}
	var corrupt *CorruptError
	if err := tpl.Verify(t.Context()); !errors.As(err, &corrupt) {
		t.Errorf("Verify: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := tpl.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestList(t *testing.T) {
	cache := t.TempDir()
	if all, err := List(cache); err != nil || len(all) > 0 {
		t.Errorf("empty cache: %v, %v", all, err)
	}
	publish(t, cache, "b", "old")
	publish(t, cache, "b", "new")
	publish(t, cache, "a", "new")
	bad := publish(t, cache, "bad", "bad")
	if err := os.Remove(bad.Image); err != nil {
		t.Fatal(err)
	}
	all, err := List(cache)
	var names []string
	for _, tpl := range all {
		names = append(names, tpl.Name)
	}
	if got := strings.Join(names, ","); got != "a,b," {
		t.Errorf("names %q, want a, b and one without a name", got)
	}
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) || corrupt.Template != "bad" {
		t.Errorf("error %v", err)
	}
}

func TestRemove(t *testing.T) {
	cache := t.TempDir()
	a := publish(t, cache, "a", "content")
	publish(t, cache, "b", "content")
	var inUse *InUseError
	err := Remove(cache, "a", func(id string) []string {
		if id != a.ID {
			t.Errorf("asked for %s", id)
		}
		return []string{"web", "db"}
	})
	if !errors.As(err, &inUse) || !strings.Contains(err.Error(), "web, db") {
		t.Errorf("in use: %v", err)
	}
	if err := Remove(cache, "a", unused); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(cache, "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("a: %v", err)
	}
	if _, err := Open(cache, "b"); err != nil {
		t.Errorf("b went with a: %v", err)
	}
	if err := Remove(cache, a.ID[:10], unused); err != nil {
		t.Fatal(err)
	}
	if all, err := List(cache); err != nil || len(all) > 0 {
		t.Errorf("left: %v, %v", all, err)
	}
	for _, gone := range []string{"b", a.ID} {
		if err := Remove(cache, gone, unused); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: error %v, want %v", gone, err, ErrNotFound)
		}
	}
}

func TestRemoveWaitsForShare(t *testing.T) {
	cache := t.TempDir()
	publish(t, cache, "a", "content")
	release, err := Share(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	other, err := Share(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	other()
	var released, asked bool
	var mu sync.Mutex
	done := make(chan error)
	go func() {
		done <- Remove(cache, "a", func(string) []string {
			mu.Lock()
			defer mu.Unlock()
			asked = released
			return nil
		})
	}()
	if _, err := Open(cache, "a"); err != nil {
		t.Errorf("removed while shared: %v", err)
	}
	mu.Lock()
	released = true
	mu.Unlock()
	release()
	if err := <-done; err != nil || !asked {
		t.Errorf("error %v; asked after release: %v", err, asked)
	}
}

func TestPublishTwiceKeepsTheFirst(t *testing.T) {
	cache := t.TempDir()
	first := publish(t, cache, "a", "content")
	before, err := os.Stat(first.Image)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, cache, "a", "content")
	after, err := os.Stat(first.Image)
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the image was replaced under the sandboxes on it (%v)", err)
	}
}
