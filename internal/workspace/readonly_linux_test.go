package workspace

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadOnlyFolder(t *testing.T) {
	x := mounted(t, childConfig{})
	must(t, os.Symlink("file", x.hostRO+"/link"))
	write(t, x.rw+"/mine", "")
	before := snapshot(t, x.hostRO)
	file, dir := x.ro+"/file", x.ro+"/dir"
	at := unix.AT_FDCWD
	open := func(flags int) error {
		fd, err := unix.Open(file, flags, 0o644)
		if err == nil {
			unix.Close(fd)
		}
		return err
	}
	for what, err := range map[string]error{
		"open to write":     open(unix.O_WRONLY),
		"open to read+":     open(unix.O_RDWR),
		"open to append":    open(unix.O_WRONLY | unix.O_APPEND),
		"open and truncate": open(unix.O_WRONLY | unix.O_TRUNC),
		"create":            os.WriteFile(x.ro+"/new", nil, 0o644),
		"mkdir":             os.Mkdir(x.ro+"/new", 0o755),
		"symlink":           os.Symlink("x", x.ro+"/new"),
		"fifo":              unix.Mkfifo(x.ro+"/new", 0o644),
		"device":            unix.Mknod(x.ro+"/new", unix.S_IFCHR, 0),
		"link within":       os.Link(file, x.ro+"/new"),
		"link out":          os.Link(file, x.rw+"/new"),
		"link in":           os.Link(x.rw+"/mine", x.ro+"/new"),
		"rename within":     os.Rename(file, x.ro+"/new"),
		"rename out":        os.Rename(file, x.rw+"/new"),
		"rename in":         os.Rename(x.rw+"/mine", x.ro+"/new"),
		"exchange":          unix.Renameat2(at, file, at, x.rw+"/mine", unix.RENAME_EXCHANGE),
		"unlink":            os.Remove(file),
		"rmdir":             unix.Rmdir(dir),
		"truncate":          os.Truncate(file, 0),
		"chmod":             os.Chmod(file, 0o777),
		"chmod directory":   os.Chmod(dir, 0o777),
		"chown":             os.Chown(file, 1, 1),
		"utimes":            unix.UtimesNanoAt(at, file, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0),
		"utimes of link":    unix.UtimesNanoAt(at, x.ro+"/link", []unix.Timespec{{Sec: 1}, {Sec: 1}}, unix.AT_SYMLINK_NOFOLLOW),
		"setxattr":          unix.Setxattr(file, "user.k", []byte("v"), 0),
		"removexattr":       unix.Removexattr(file, "user.k"),
	} {
		wantErr(t, what, err, unix.EROFS)
	}
	if fd, err := unix.Open(x.ro, unix.O_TMPFILE|unix.O_RDWR, 0o644); err != unix.EROFS {
		t.Errorf("O_TMPFILE: %d, %v", fd, err)
	}
	writesThroughReadHandle(t, x)
	wantText(t, file, "read me")
	if after := snapshot(t, x.hostRO); after != before {
		t.Errorf("the folder changed from\n%s\nto\n%s", before, after)
	}
	for _, op := range []string{"create", "open", "rename", "link", "setattr"} {
		within(t, "refusal of "+op, func() bool { return x.refusals.has(op) })
	}
}

// writesThroughReadHandle tries what a handle for reading might let through.
func writesThroughReadHandle(t *testing.T, x *fixture) {
	t.Helper()
	f, err := os.Open(x.ro + "/file")
	must(t, err)
	defer f.Close()
	fd := int(f.Fd())
	if err := unix.Ftruncate(fd, 0); err == nil {
		t.Error("ftruncate worked")
	}
	if err := unix.Fallocate(fd, 0, 0, 100); err == nil {
		t.Error("fallocate worked")
	}
	if err := unix.Fchmod(fd, 0o777); err == nil {
		t.Error("fchmod worked")
	}
	if err := unix.Fsetxattr(fd, "user.k", nil, 0); err == nil {
		t.Error("fsetxattr worked")
	}
	if _, err := unix.Mmap(fd, 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Error("a writable mapping worked")
	}
	if _, err := unix.IoctlGetInt(fd, unix.FS_IOC_GETFLAGS); err != unix.ENOTTY {
		t.Errorf("ioctl: %v", err)
	}
	src, err := os.Open(x.rw + "/mine")
	must(t, err)
	defer src.Close()
	if n, err := unix.CopyFileRange(int(src.Fd()), nil, fd, nil, 10, 0); err == nil {
		t.Errorf("copy_file_range copied %d", n)
	}
}

// A read-only folder inside a writable one must hold on both ways to it.
func TestReadOnlyFolderInsideAnother(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.MkdirAll(dir+"/a/inner/deep", 0o755))
	write(t, dir+"/a/inner/f", "keep")
	write(t, dir+"/a/other", "")
	y := mounted(t, childConfig{Folders: []Folder{
		{Name: "outer", Path: dir},
		{Name: "inner", Path: dir + "/a/inner", ReadOnly: true},
	}}).mnt
	for what, err := range map[string]error{
		"write":           os.WriteFile(y+"/outer/a/inner/f", []byte("x"), 0o644),
		"write, directly": os.WriteFile(y+"/inner/f", []byte("x"), 0o644),
		"create below":    os.WriteFile(y+"/outer/a/inner/deep/n", []byte("x"), 0o644),
		"rename out":      os.Rename(y+"/outer/a/inner/f", y+"/outer/f"),
		"rename in":       os.Rename(y+"/outer/a/other", y+"/outer/a/inner/f"),
		"link":            os.Link(y+"/outer/a/inner/f", y+"/outer/f"),
	} {
		wantErr(t, what, err, unix.EROFS)
	}
	wantErr(t, "rename of the folder", os.Rename(y+"/outer/a/inner", y+"/outer/free"), unix.EBUSY)
	must(t, os.Mkdir(y+"/outer/empty", 0o755))
	wantErr(t, "exchange of the folder", unix.Renameat2(unix.AT_FDCWD, y+"/outer/empty", unix.AT_FDCWD, y+"/outer/a/inner", unix.RENAME_EXCHANGE), unix.EBUSY)
	// What is around it may move; the rule moves along.
	must(t, os.Rename(y+"/outer/a", y+"/outer/b"))
	wantErr(t, "write after a rename", os.WriteFile(y+"/outer/b/inner/f", []byte("x"), 0o644), unix.EROFS)
	wantText(t, dir+"/b/inner/f", "keep")
}
