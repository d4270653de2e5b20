package workspace

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestFilesAppearOnBothSides(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		write(t, x.hostRW+"/from-host", "hello")
		wantText(t, x.rw+"/from-host", "hello")
		write(t, x.rw+"/from-guest", "hi")
		wantText(t, x.hostRW+"/from-guest", "hi")

		must(t, os.MkdirAll(x.rw+"/a/b/c", 0o755))
		write(t, x.rw+"/a/b/c/f", "deep")
		wantText(t, x.hostRW+"/a/b/c/f", "deep")
		must(t, os.Rename(x.rw+"/a/b", x.rw+"/moved"))
		wantText(t, x.rw+"/moved/c/f", "deep")
		must(t, os.RemoveAll(x.rw+"/moved"))
		if _, err := os.Lstat(x.hostRW + "/moved"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("removed tree is still there: %v", err)
		}
	})
}

func TestRootListsTheFolders(t *testing.T) {
	x := mounted(t, childConfig{})
	entries, err := os.ReadDir(x.mnt)
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"r", "w"}) {
		t.Errorf("the root has %q", names)
	}
	wantErr(t, "mkdir in the root", os.Mkdir(x.mnt+"/new", 0o755), unix.EROFS)
	wantErr(t, "rmdir of a folder", unix.Rmdir(x.mnt+"/w"), unix.EROFS)
	_, err = os.Lstat(x.mnt + "/nothing")
	wantErr(t, "stat", err, unix.ENOENT)
}

func TestEverythingBelongsToTheOwner(t *testing.T) {
	x := mounted(t, childConfig{})
	write(t, x.rw+"/f", "")
	must(t, os.Chown(x.rw+"/f", 0, 0))
	must(t, os.Lchown(x.rw+"/f", 1234, 1234))
	var st unix.Stat_t
	must(t, unix.Lstat(x.rw+"/f", &st))
	if st.Uid != 1000 || st.Gid != 1000 {
		t.Errorf("the guest sees owner %d:%d", st.Uid, st.Gid)
	}
	must(t, unix.Lstat(x.hostRW+"/f", &st))
	if int(st.Uid) != os.Getuid() {
		t.Errorf("on the host the file belongs to %d", st.Uid)
	}
}

func TestModes(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		hostMode := func(name string) uint32 {
			var st unix.Stat_t
			must(t, unix.Lstat(filepath.Join(x.hostRW, name), &st))
			return st.Mode & 0o7777
		}
		old := unix.Umask(0)
		defer unix.Umask(old)
		for _, mode := range []uint32{0, 0o444, 0o600, 0o664, 0o777} {
			must(t, unix.Mknod(x.rw+"/n", unix.S_IFREG|mode, 0))
			if got := hostMode("n"); got != mode {
				t.Errorf("made with %o, is %o", mode, got)
			}
			must(t, os.Remove(x.rw+"/n"))
			fd, err := unix.Open(x.rw+"/c", unix.O_CREAT|unix.O_EXCL|unix.O_RDWR, mode)
			must(t, err)
			_, err = unix.Write(fd, []byte("x"))
			must(t, err)
			unix.Close(fd)
			if got := hostMode("c"); got != mode {
				t.Errorf("created with %o, is %o", mode, got)
			}
			must(t, os.Remove(x.rw+"/c"))
		}
		must(t, os.Mkdir(x.rw+"/d", 0o777))
		must(t, unix.Chmod(x.rw+"/d", 0o1777))
		if got := hostMode("d"); got != 0o1777 {
			t.Errorf("sticky directory is %o", got)
		}
		write(t, x.rw+"/f", "")
		for _, mode := range []uint32{0o4755, 0o2755, 0o6777, 0o1644} {
			must(t, unix.Chmod(x.rw+"/f", mode))
			if got := hostMode("f"); got != mode&0o777 {
				t.Errorf("chmod %o gives %o on the host", mode, got)
			}
		}
	})
}

func TestSetuidFileOfTheHostLosesItWhenWritten(t *testing.T) {
	x := mounted(t, childConfig{})
	for name, change := range map[string]func(path string) error{
		"write":    func(p string) error { return os.WriteFile(p, []byte("evil"), 0) },
		"truncate": func(p string) error { return os.Truncate(p, 1) },
	} {
		write(t, x.hostRW+"/"+name, "tool")
		must(t, unix.Chmod(x.hostRW+"/"+name, 0o6755))
		must(t, change(x.rw+"/"+name))
		var st unix.Stat_t
		must(t, unix.Lstat(x.hostRW+"/"+name, &st))
		if st.Mode&0o7777 != 0o755 {
			t.Errorf("after %s the mode is %o", name, st.Mode&0o7777)
		}
	}
}

func TestUnlinkedFileGoesOn(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		for _, how := range []string{"unlink", "rename over"} {
			f, err := os.OpenFile(x.rw+"/f", os.O_RDWR|os.O_CREATE, 0o644)
			must(t, err)
			churn(t, x)
			if how == "unlink" {
				must(t, os.Remove(x.rw+"/f"))
			} else {
				write(t, x.rw+"/g", "other")
				must(t, os.Rename(x.rw+"/g", x.rw+"/f"))
			}
			churn(t, x)
			_, err = f.WriteString("still here")
			must(t, err)
			must(t, f.Chmod(0o600))
			must(t, f.Truncate(5))
			must(t, f.Sync())
			must(t, unix.Fsetxattr(int(f.Fd()), "user.k", []byte("v"), 0))
			info, err := f.Stat()
			must(t, err)
			if info.Size() != 5 || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: stat says %v", how, info)
			}
			buf := make([]byte, 10)
			n, _ := f.ReadAt(buf, 0)
			if string(buf[:n]) != "still" {
				t.Errorf("%s: read %q", how, buf[:n])
			}
			again, err := os.Open("/proc/self/fd/" + itoa(int(f.Fd())))
			must(t, err)
			must(t, again.Close())
			must(t, f.Close())
		}
	})
}

// churn uses many files, so that descriptors of others are taken away.
func churn(t testing.TB, x *fixture) {
	t.Helper()
	for i := range 30 {
		dir := filepath.Join(x.rw, "churn", itoa(i))
		must(t, os.MkdirAll(dir, 0o755))
		write(t, dir+"/f", "x")
		_ = read(t, dir+"/f")
	}
}

func itoa(i int) string { return strconv.Itoa(i) }

func TestRenameVariants(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		a, b := x.rw+"/a", x.rw+"/b"
		at := unix.AT_FDCWD
		write(t, a, "a")
		write(t, b, "b")
		wantErr(t, "noreplace", unix.Renameat2(at, a, at, b, unix.RENAME_NOREPLACE), unix.EEXIST)
		must(t, unix.Renameat2(at, a, at, b, unix.RENAME_EXCHANGE))
		churn(t, x)
		wantText(t, a, "b")
		wantText(t, b, "a")
		wantErr(t, "whiteout", unix.Renameat2(at, a, at, x.rw+"/c", unix.RENAME_WHITEOUT), unix.EINVAL)
		must(t, os.Mkdir(x.rw+"/dir", 0o755))
		write(t, x.rw+"/dir/in", "in")
		must(t, unix.Renameat2(at, a, at, x.rw+"/dir", unix.RENAME_EXCHANGE))
		wantText(t, a+"/in", "in")
		wantErr(t, "across folders", os.Rename(b, x.ro+"/b"), unix.EROFS)
		wantErr(t, "into itself", os.Rename(a, a+"/below"), unix.EINVAL)
	})
}

func TestLinks(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		write(t, x.rw+"/f", "text")
		must(t, os.Link(x.rw+"/f", x.rw+"/g"))
		must(t, os.Remove(x.rw+"/f"))
		churn(t, x)
		wantText(t, x.rw+"/g", "text")
		var st unix.Stat_t
		must(t, unix.Lstat(x.hostRW+"/g", &st))
		if st.Nlink != 1 {
			t.Errorf("nlink %d", st.Nlink)
		}
		wantErr(t, "link out of a read-only folder", os.Link(x.ro+"/file", x.rw+"/stolen"), unix.EROFS)

		for _, target := range []string{"g", "/etc/passwd", "../../outside/secret", strings.Repeat("x", 4000)} {
			must(t, os.Symlink(target, x.rw+"/l"))
			got, err := os.Readlink(x.hostRW + "/l")
			must(t, err)
			if got != target {
				t.Errorf("link says %q", got)
			}
			got, err = os.Readlink(x.rw + "/l")
			must(t, err)
			if got != target {
				t.Errorf("the guest reads %q", got)
			}
			must(t, os.Link(x.rw+"/l", x.rw+"/l2"))
			must(t, os.Remove(x.rw+"/l2"))
			must(t, os.Lchown(x.rw+"/l", 0, 0))
			must(t, unix.UtimesNanoAt(unix.AT_FDCWD, x.rw+"/l", []unix.Timespec{{Sec: 1}, {Sec: 2}}, unix.AT_SYMLINK_NOFOLLOW))
			must(t, os.Remove(x.rw+"/l"))
		}
	})
}

func TestTmpfileCanBeLinked(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		fd, err := unix.Open(x.rw, unix.O_TMPFILE|unix.O_RDWR, 0o640)
		must(t, err)
		defer unix.Close(fd)
		_, err = unix.Write(fd, []byte("anonymous"))
		must(t, err)
		churn(t, x)
		must(t, unix.Linkat(unix.AT_FDCWD, "/proc/self/fd/"+itoa(fd), unix.AT_FDCWD, x.rw+"/named", unix.AT_SYMLINK_FOLLOW))
		wantText(t, x.hostRW+"/named", "anonymous")
		churn(t, x)
		wantText(t, x.rw+"/named", "anonymous")
	})
}

func TestSpecialFiles(t *testing.T) {
	x := mounted(t, childConfig{})
	must(t, unix.Mkfifo(x.rw+"/fifo", 0o644))
	must(t, unix.Mknod(x.rw+"/sock", unix.S_IFSOCK|0o644, 0))
	for _, mode := range []uint32{unix.S_IFCHR, unix.S_IFBLK} {
		err := unix.Mknod(x.rw+"/dev", mode|0o666, int(unix.Mkdev(1, 3)))
		wantErr(t, "mknod", err, unix.EPERM)
	}
	within(t, "refusal of the device node", func() bool { return x.refusals.has("mknod") })
	var st unix.Stat_t
	must(t, unix.Lstat(x.hostRW+"/fifo", &st))
	if st.Mode&unix.S_IFMT != unix.S_IFIFO {
		t.Errorf("fifo is %o", st.Mode)
	}
	// Both ends in the guest: the host has no part in it.
	done := make(chan error, 1)
	go func() { done <- os.WriteFile(x.rw+"/fifo", []byte("through"), 0) }()
	wantText(t, x.rw+"/fifo", "through")
	must(t, <-done)
}

func TestNames(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		names := []string{
			strings.Repeat("n", 255), "new\nline", "\x1b[31mred\x07", "\xff\xfe invalid", " space ", "-rf", "*", "ä→😀", "...", ".hidden", "a\\b", "q\"'",
		}
		for _, n := range names {
			write(t, filepath.Join(x.rw, n), n)
		}
		entries, err := os.ReadDir(x.rw)
		must(t, err)
		var got []string
		for _, e := range entries {
			got = append(got, e.Name())
			wantText(t, filepath.Join(x.hostRW, e.Name()), e.Name())
		}
		slices.Sort(names)
		if !slices.Equal(got, names) {
			t.Errorf("listed %q", got)
		}
		err = os.WriteFile(x.rw+"/"+strings.Repeat("n", 256), nil, 0o644)
		wantErr(t, "256 bytes", err, unix.ENAMETOOLONG)
	})
}

func TestManyEntries(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		const count = 2000
		for i := range count {
			write(t, filepath.Join(x.hostRW, "f"+itoa(i)), "")
		}
		f, err := os.Open(x.rw)
		must(t, err)
		defer f.Close()
		for range 2 {
			names, err := f.Readdirnames(-1)
			must(t, err)
			slices.Sort(names)
			if len(slices.Compact(names)) != count {
				t.Fatalf("%d names listed", len(names))
			}
			_, err = f.Seek(0, 0)
			must(t, err)
		}
		must(t, os.RemoveAll(x.rw+"/sub"))
		for i := range count {
			must(t, os.Remove(filepath.Join(x.rw, "f"+itoa(i))))
		}
	})
}

func TestXattrs(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		p := x.rw + "/f"
		write(t, p, "")
		big := bytes.Repeat([]byte("v"), 2000)
		must(t, unix.Setxattr(p, "user.big", big, 0))
		must(t, unix.Setxattr(p, "user.small", nil, unix.XATTR_CREATE))
		wantErr(t, "create twice", unix.Setxattr(p, "user.small", nil, unix.XATTR_CREATE), unix.EEXIST)
		buf := make([]byte, 4096)
		n, err := unix.Getxattr(p, "user.big", buf)
		must(t, err)
		if !bytes.Equal(buf[:n], big) {
			t.Error("value changed")
		}
		_, err = unix.Getxattr(p, "user.big", buf[:10])
		wantErr(t, "short buffer", err, unix.ERANGE)
		n, err = unix.Listxattr(p, buf)
		must(t, err)
		if got := string(buf[:n]); !strings.Contains(got, "user.big\x00") || !strings.Contains(got, "user.small\x00") {
			t.Errorf("list %q", got)
		}
		must(t, unix.Removexattr(p, "user.big"))
		_, err = unix.Getxattr(p, "user.big", buf)
		wantErr(t, "removed", err, unix.ENODATA)
		_, err = unix.Getxattr(p, "security.capability", buf)
		wantErr(t, "capability", err, unix.ENODATA)
		for _, attr := range []string{"security.capability", "security.selinux", "trusted.overlay.opaque", "security.ima"} {
			if err := unix.Setxattr(p, attr, []byte("\x01\x00\x00\x02"+strings.Repeat("\x00", 16)), 0); err == nil {
				t.Errorf("%s could be set", attr)
			}
			if n, _ := unix.Lgetxattr(x.hostRW+"/f", attr, buf); n > 0 {
				t.Errorf("%s is on the host", attr)
			}
		}
	})
}
