package workspace

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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

// childConfig is what a server in a process of its own needs.
type childConfig struct {
	Folders        []Folder
	MaxDescriptors int
	UID            uint32
}

// mounted mounts it, too. The server is a process of its own, like in real
// life: a Go program must not wait for itself in system calls and page faults.
func mounted(t testing.TB, c childConfig) *fixture {
	t.Helper()
	needFuse(t)
	x := newFS(t, Options{})
	_ = x.fs.Close()
	if c.Folders == nil {
		c.Folders = x.fs.folders
	}
	must(t, os.Chmod(filepath.Dir(filepath.Dir(x.mnt)), 0o755))
	must(t, os.Chown(x.hostRW, int(c.UID), int(c.UID)))
	dev, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	must(t, err)
	defer dev.Close()
	must(t, unix.Mount("workspace", x.mnt, "fuse.workspace", unix.MS_NOSUID|unix.MS_NODEV,
		fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other,max_read=%d", dev.Fd(), MaxRequest)))
	r, w, err := os.Pipe()
	must(t, err)
	defer w.Close()
	config, err := json.Marshal(c)
	must(t, err)
	// Its executable is in a folder that only the present user may enter.
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestServeChild$")
	cmd.ExtraFiles = []*os.File{dev, w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: c.UID, Gid: c.UID}}
	cmd.Env = append(os.Environ(), childArg+"="+string(config))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(t, cmd.Start())
	go x.refusals.readFrom(r)
	t.Cleanup(func() {
		_ = unix.Unmount(x.mnt, unix.MNT_DETACH)
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Errorf("server: %v\n%s", err, out.Bytes())
		}
	})
	return x
}

// TestServeChild is no test but the process that mounted starts.
func TestServeChild(t *testing.T) {
	var c childConfig
	if json.Unmarshal([]byte(os.Getenv(childArg)), &c) != nil {
		t.Skip("started by other tests")
	}
	report := json.NewEncoder(os.NewFile(4, "report"))
	var mu sync.Mutex
	f, err := New(c.Folders, Options{Owner: testOwner, MaxDescriptors: c.MaxDescriptors, Refused: func(r Refusal) {
		mu.Lock()
		defer mu.Unlock()
		_ = report.Encode(r)
	}})
	must(t, err)
	defer f.Close()
	srv, err := fuse.NewServer(f, "/dev/fd/3", f.MountOptions())
	must(t, err)
	srv.Serve()
}

func (r *refusals) readFrom(pipe *os.File) {
	defer pipe.Close()
	d := json.NewDecoder(pipe)
	for {
		var x Refusal
		if d.Decode(&x) != nil {
			return
		}
		r.add(x)
	}
}

func needFuse(t testing.TB) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil || os.Getuid() != 0 {
		t.Skipf("needs root and /dev/fuse: %v", err)
	}
	unix.Close(fd)
}

// nobody serves the folders in the tests without privileges.
const nobody = 65534

// eachMode runs a test in the lives that a node can have: with a descriptor that
// stays, with one that is taken away at the next occasion, and served by a
// process without privileges.
func eachMode(t *testing.T, test func(*testing.T, *fixture)) {
	t.Run("roomy", func(t *testing.T) { test(t, mounted(t, childConfig{})) })
	t.Run("scarce", func(t *testing.T) { test(t, mounted(t, childConfig{MaxDescriptors: 40})) })
	t.Run("unprivileged", func(t *testing.T) { test(t, mounted(t, childConfig{UID: nobody})) })
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write makes a file that belongs to whom its folder belongs, if it is new.
func write(t testing.TB, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o644))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Dir(path), &st))
	if st.Uid == nobody {
		must(t, os.Chown(path, nobody, nobody))
	}
}

// mkdir is like write.
func mkdir(t testing.TB, path string) {
	t.Helper()
	must(t, os.Mkdir(path, 0o755))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Dir(path), &st))
	if st.Uid == nobody {
		must(t, os.Chown(path, nobody, nobody))
	}
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
