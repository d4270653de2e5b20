package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sbx/internal/dirs"
)

func newStore(t *testing.T) *Store {
	t.Helper()
	base := t.TempDir()
	s, err := Open(dirs.Dirs{State: filepath.Join(base, "state"), Runtime: filepath.Join(base, "run")})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func nothing(string) error { return nil }

func TestCreateGetRemove(t *testing.T) {
	s := newStore(t)
	r := &Record{Name: "web", Agent: "shell", ID: NewID(), Workspaces: []Workspace{{Path: "/x", ReadOnly: true}}}
	if err := s.Create(r, func(dir string) error { return os.WriteFile(filepath.Join(dir, "disk.qcow2"), nil, 0o600) }); err != nil {
		t.Fatal(err)
	}
	got, err := s.Get("web")
	if err != nil || got.ID != r.ID || got.Workspaces[0] != r.Workspaces[0] {
		t.Fatalf("got %+v, %v", got, err)
	}
	if err := s.Create(&Record{Name: "web"}, nothing); !errors.Is(err, ErrExists) {
		t.Errorf("second create: %v, want ErrExists", err)
	}
	lock, err := s.Lock("web")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("web"); err != nil {
		t.Fatal(err)
	}
	lock.Release()
	if _, err := s.Get("web"); !errors.Is(err, ErrNotFound) {
		t.Errorf("after remove: %v, want ErrNotFound", err)
	}
	assertEmpty(t, s)
}

func TestOneOfManyCreatorsWins(t *testing.T) {
	s := newStore(t)
	var wins sync.Map
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			err := s.Create(&Record{Name: "same", ID: NewID()}, nothing)
			switch {
			case err == nil:
				wins.Store(i, true)
			case !errors.Is(err, ErrExists):
				t.Errorf("loser: %v", err)
			}
		})
	}
	all.Wait()
	n := 0
	wins.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d winners", n)
	}
}

func TestCreateThatFailsLeavesNothing(t *testing.T) {
	s := newStore(t)
	failure := errors.New("disk full")
	if err := s.Create(&Record{Name: "web"}, func(string) error { return failure }); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	assertEmpty(t, s)
}

func TestLockIsExclusiveAndVisible(t *testing.T) {
	s := newStore(t)
	if err := s.Create(&Record{Name: "web"}, nothing); err != nil {
		t.Fatal(err)
	}
	if s.Locked("web") {
		t.Error("locked at birth")
	}
	lock, err := s.Lock("web")
	if err != nil {
		t.Fatal(err)
	}
	if !s.Locked("web") {
		t.Error("not seen as locked")
	}
	if _, err := s.Lock("web"); !errors.Is(err, ErrLocked) {
		t.Errorf("second lock: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		second, err := s.LockWait(t.Context(), "web")
		if err == nil {
			second.Release()
		}
		got <- err
	}()
	lock.Release()
	if err := <-got; err != nil {
		t.Errorf("waiting: %v", err)
	}
	if _, err := s.Lock("nosuch"); !errors.Is(err, ErrNotFound) {
		t.Errorf("lock of nothing: %v", err)
	}
}

func TestSweepRemovesWhatCrashesLeft(t *testing.T) {
	s := newStore(t)
	if err := s.Create(&Record{Name: "web"}, nothing); err != nil {
		t.Fatal(err)
	}
	// A creation that was killed: its lock is free.
	dead := filepath.Join(s.dirs.Sandboxes(), tempPrefix+"dead-1")
	os.Mkdir(dead, 0o700)
	os.WriteFile(filepath.Join(dead, lockName), nil, 0o600)
	// One that goes on.
	live := filepath.Join(s.dirs.Sandboxes(), tempPrefix+"live-1")
	os.Mkdir(live, 0o700)
	lock, err := acquire(live)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	// One killed before it had a lock, and one that is just beginning.
	old := filepath.Join(s.dirs.Sandboxes(), tempPrefix+"old-1")
	os.Mkdir(old, 0o700)
	os.Chtimes(old, time.Time{}, time.Now().Add(-time.Hour))
	young := filepath.Join(s.dirs.Sandboxes(), tempPrefix+"young-1")
	os.Mkdir(young, 0o700)
	// Sockets of a sandbox that does not run, of one that is gone, and of one
	// that is perhaps just being created.
	os.MkdirAll(s.RuntimeDir("web"), 0o700)
	os.MkdirAll(s.RuntimeDir("gone"), 0o700)
	os.Chtimes(s.RuntimeDir("gone"), time.Time{}, time.Now().Add(-time.Hour))
	os.MkdirAll(s.RuntimeDir("new"), 0o700)

	if _, err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{dead: false, live: true, old: false, young: true, s.RuntimeDir("web"): false, s.RuntimeDir("gone"): false, s.RuntimeDir("new"): true, s.Dir("web"): true} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s exists: %v, want %v", path, err == nil, want)
		}
	}
}

func TestDamagedRecordsAreReported(t *testing.T) {
	for name, content := range map[string]string{
		"truncated":  `{"version": 1, "name": "tru`,
		"newer":      `{"version": 99, "name": "newer"}`,
		"other-name": `{"version": 1, "name": "web"}`,
	} {
		s := newStore(t)
		os.Mkdir(s.Dir(name), 0o700)
		os.WriteFile(filepath.Join(s.Dir(name), "sandbox.json"), []byte(content), 0o600)
		if _, err := s.Get(name); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, want ErrDamaged", name, err)
		}
	}
}

func assertEmpty(t *testing.T, s *Store) {
	t.Helper()
	entries, err := os.ReadDir(s.dirs.Sandboxes())
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestParseWorkspace(t *testing.T) {
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", filepath.Join(base, "home"))
	for _, dir := range []string{"home/src", "other"} {
		os.MkdirAll(filepath.Join(base, dir), 0o755)
	}
	os.WriteFile(filepath.Join(base, "file"), nil, 0o644)
	os.Symlink("other", filepath.Join(base, "link"))
	tests := []struct {
		arg, path, err string
		readOnly       bool
	}{
		{arg: "other", path: "other"},
		{arg: "other:ro", path: "other", readOnly: true},
		{arg: "link", path: "other"},
		{arg: "home/src", path: "home/src"},
		{arg: "home", err: "shares too much"},
		{arg: ".", err: "shares too much"},
		{arg: "missing", err: "no such folder"},
		{arg: "file", err: "it is a file"},
		{arg: "/", err: "files of its own"},
		{arg: "/usr/bin", err: "system files"},
		{arg: "/usr", err: "files of its own"},
		{arg: "/etc", err: "system files"},
		{arg: "/tmp", err: ""},
		{arg: ":ro", err: "empty"},
	}
	t.Chdir(base)
	for _, tt := range tests {
		w, err := ParseWorkspace(tt.arg)
		switch {
		case tt.arg == "/tmp": // contains the home of this test, or is refused as such
			if err == nil {
				t.Errorf("/tmp was accepted")
			}
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: %v, want %q", tt.arg, err, tt.err)
			}
		case err != nil || w.Path != filepath.Join(base, tt.path) || w.ReadOnly != tt.readOnly:
			t.Errorf("%s: %+v, %v", tt.arg, w, err)
		}
	}
}

func TestDistinct(t *testing.T) {
	rw := func(p string) Workspace { return Workspace{Path: p} }
	ro := func(p string) Workspace { return Workspace{Path: p, ReadOnly: true} }
	tests := []struct {
		in   []Workspace
		want int // -1: refused
	}{
		{nil, 0},
		{[]Workspace{rw("/a"), rw("/b")}, 2},
		{[]Workspace{rw("/a"), rw("/a")}, 1},
		{[]Workspace{rw("/a/b"), rw("/a")}, 2},
		{[]Workspace{rw("/a"), ro("/a/b")}, -1},
		{[]Workspace{ro("/a/b"), rw("/a")}, -1},
		{[]Workspace{rw("/a"), ro("/ab")}, 2},
		{[]Workspace{ro("/a"), rw("/a")}, -1},
	}
	for _, tt := range tests {
		got, err := Distinct(tt.in)
		if (err != nil) != (tt.want < 0) || err == nil && len(got) != tt.want {
			t.Errorf("%v: %v, %v", tt.in, got, err)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"a": true, "web-2": true, "0": true, "": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false, "..": false, strings.Repeat("a", 63): true, strings.Repeat("a", 64): false} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, tt := range [][3]string{
		{"shell", "/home/me/My Project", "shell-my-project"},
		{"shell", "/x/Üß", "shell"},
		{"shell", "", "shell"},
		{"claude", "/x/" + strings.Repeat("long", 40), "claude-" + strings.Repeat("long", 13)},
	} {
		got := DefaultName(tt[0], tt[1])
		if CheckName(got) != nil || got != tt[2] {
			t.Errorf("%q %q: %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}
