package workspace

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// The tests of this package that need a kernel use the host's own: the file
// system is mounted like any FUSE file system, without a virtual machine.

// fixture is a mounted workspace: one writable and one read-only folder, and a
// place outside of both that must never be touched.
type fixture struct {
	fs       *FS
	mnt      string // the synthetic root in "the guest"
	rw, ro   string // the folders in the guest
	hostRW   string // the folders on the host
	hostRO   string
	outside  string
	refusals *refusals
}

type refusals struct {
	mu  sync.Mutex
	all []Refusal
}

func (r *refusals) add(x Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, x)
}

func (r *refusals) has(op string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.all {
		if x.Op == op {
			return true
		}
	}
	return false
}

var testOwner = Owner{UID: 1000, GID: 1000}

// newFS makes the folders and the file system without mounting it.
func newFS(t testing.TB, o Options) *fixture {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	x := &fixture{
		mnt: filepath.Join(dir, "mnt"), hostRW: filepath.Join(dir, "rw"), hostRO: filepath.Join(dir, "ro"),
		outside: filepath.Join(dir, "outside"), refusals: &refusals{},
	}
	x.rw, x.ro = filepath.Join(x.mnt, "w"), filepath.Join(x.mnt, "r")
	for _, d := range []string{x.mnt, x.hostRW, x.hostRO, x.outside} {
		must(t, os.Mkdir(d, 0o755))
	}
	write(t, filepath.Join(x.hostRO, "file"), "read me")
	must(t, os.Mkdir(filepath.Join(x.hostRO, "dir"), 0o755))
	write(t, filepath.Join(x.outside, "secret"), "canary")
	o.Owner = testOwner
	o.Refused = x.refusals.add
	x.fs, err = New([]Folder{{Name: "w", Path: x.hostRW}, {Name: "r", Path: x.hostRO, ReadOnly: true}}, o)
	must(t, err)
	t.Cleanup(func() { _ = x.fs.Close() })
	return x
}

// mounted mounts it, too.
func mounted(t testing.TB, o Options) *fixture {
	t.Helper()
	needFuse(t)
	x := newFS(t, o)
	mountAt(t, x.fs, x.mnt)
	return x
}

// mountFS mounts a file system somewhere.
func mountFS(t testing.TB, f *FS) string {
	t.Helper()
	mnt := t.TempDir()
	t.Cleanup(func() { _ = f.Close() })
	mountAt(t, f, mnt)
	return mnt
}

func mountAt(t testing.TB, f *FS, mnt string) {
	t.Helper()
	needFuse(t)
	opts := f.MountOptions()
	opts.DirectMountStrict = true
	opts.Options = []string{"default_permissions"}
	opts.AllowOther = true
	srv, err := fuse.NewServer(f, mnt, opts)
	must(t, err)
	go srv.Serve()
	must(t, srv.WaitMount())
	t.Cleanup(func() {
		if err := srv.Unmount(); err != nil {
			t.Errorf("unmount: %v", err)
			_ = unix.Unmount(mnt, unix.MNT_DETACH)
		}
		srv.Wait()
	})
}

func needFuse(t testing.TB) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil || os.Getuid() != 0 {
		t.Skipf("needs root and /dev/fuse: %v", err)
	}
	unix.Close(fd)
}

// modes are the two lives of a node: with a descriptor that stays, and with one
// that is taken away at the next occasion.
var modes = []struct {
	name string
	opts Options
}{
	{"roomy", Options{}},
	{"scarce", Options{MaxDescriptors: 40}},
}

func eachMode(t *testing.T, test func(*testing.T, *fixture)) {
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) { test(t, mounted(t, m.opts)) })
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return string(b)
}

func wantText(t testing.TB, path, text string) {
	t.Helper()
	if got := read(t, path); got != text {
		t.Errorf("%s has %q, not %q", path, got, text)
	}
}

func wantErr(t testing.TB, what string, err, want error) {
	t.Helper()
	if e, ok := want.(unix.Errno); !ok || !isErrno(err, e) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func isErrno(err error, want unix.Errno) bool {
	for err != nil {
		if e, ok := err.(unix.Errno); ok {
			return e == want
		}
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return false
		}
		err = u.Unwrap()
	}
	return false
}

// snapshot describes a tree: a change of anything in it changes the text.
func snapshot(t testing.TB, dir string) string {
	t.Helper()
	var text string
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text += fmt.Sprintf("%s mode=%o nlink=%d size=%d mtime=%v ctime=%v ino=%d\n",
			path, st.Mode, st.Nlink, st.Size, st.Mtim, st.Ctim, st.Ino)
		return nil
	}))
	return text
}

const (
	childDir = "SBX_TEST_CHILD_DIR"
	childArg = "SBX_TEST_CHILD_ARG"
)

// inChild runs the present test again in a process of its own, with a directory
// and perhaps a word that tell it what to do there.
func inChild(t *testing.T, dir string, arg ...string) {
	t.Helper()
	runChild(t, exec.Command(os.Args[0], childArgs(t)...), dir, arg...)
}

func childArgs(t *testing.T) []string {
	name, _, _ := strings.Cut(t.Name(), "/")
	return []string{"-test.run=^" + name + "$", "-test.v"}
}

func runChild(t *testing.T, cmd *exec.Cmd, dir string, arg ...string) {
	t.Helper()
	cmd.Env = append(os.Environ(), childDir+"="+dir, childArg+"="+strings.Join(arg, " "))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("child: %v\n%s", err, out)
	}
}
