package ext4

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var mtime = time.Unix(1700000000, 123456789)

// entry is a tar entry with its content.
type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, data}
}

func dir(name string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func symlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}, ""}
}

// archive makes a tar stream of entries.
func archive(t testing.TB, entries ...entry) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size, e.Format = int64(len(e.data)), tar.FormatPAX
		if e.ModTime.IsZero() {
			e.ModTime = mtime
		}
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

// convert makes an image and lets e2fsck look at it.
func convert(t testing.TB, r io.Reader, o Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := FromTar(t.Context(), r, path, o); err != nil {
		t.Fatal(err)
	}
	fsck(t, path)
	return path
}

func tool(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin"} {
		if path := filepath.Join(dir, name); exec.Command(path, "-V").Run() == nil {
			return path
		}
	}
	t.Skipf("%s of e2fsprogs is not installed", name)
	return ""
}

func fsck(t testing.TB, image string) {
	t.Helper()
	out, err := exec.Command(tool(t, "e2fsck"), "-fn", image).CombinedOutput()
	if err != nil {
		t.Fatalf("e2fsck: %v\n%s", err, out)
	}
}

func debugfs(t testing.TB, image, command string) string {
	t.Helper()
	cmd := exec.Command(tool(t, "debugfs"), "-R", command, image)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("debugfs %s: %v", command, err)
	}
	return string(out) + strings.TrimPrefix(stderr.String(), "debugfs 1.")
}

func TestFromTarKeepsEverything(t *testing.T) {
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x07\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x07\x00\xff\xff\xff\xff\x20\x00\x04\x00\xff\xff\xff\xff"
	long := strings.Repeat("long/", 50)
	image := convert(t, archive(t,
		entry{tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o751, Uid: 3}, ""},
		file("etc/hello", "hello\n"),
		entry{tar.Header{Name: "bin/sudo", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 70000, Gid: 80000}, "x"},
		entry{tar.Header{Name: "tmp", Typeflag: tar.TypeDir, Mode: 0o1777}, ""},
		entry{tar.Header{Name: "bin/ping", Typeflag: tar.TypeReg, Mode: 0o755,
			PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}, "x"},
		entry{tar.Header{Name: "attrs", Typeflag: tar.TypeReg, Mode: 0o600, PAXRecords: map[string]string{
			"SCHILY.xattr.user.small": "v", "SCHILY.xattr.user.empty": "", "SCHILY.xattr.com.apple.x": "no",
			"SCHILY.xattr.user.large": strings.Repeat("L", 3000), "SCHILY.xattr.trusted.t": strings.Repeat("T", 70),
		}}, ""},
		entry{tar.Header{Name: "acl", Typeflag: tar.TypeReg, Mode: 0o644,
			PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_access": acl}}, ""},
		hardlink("early", "etc/second"),
		hardlink("etc/second", "etc/hello"),
		symlink("short", "etc/hello"),
		symlink("long", long),
		entry{tar.Header{Name: "dev/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""},
		entry{tar.Header{Name: "dev/big", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 259, Devminor: 70000}, ""},
		entry{tar.Header{Name: "pipe", Typeflag: tar.TypeFifo, Mode: 0o600}, ""},
		entry{tar.Header{Name: "old", Typeflag: tar.TypeReg, ModTime: time.Unix(-86400, 0)}, ""},
		entry{tar.Header{Name: "late", Typeflag: tar.TypeReg, ModTime: time.Unix(1<<32+5, 0)}, ""},
		file(strings.Repeat("n", 255), "longest name"),
	), Options{Label: "test"})

	tests := []struct{ command, want string }{
		{"stat /", "Mode:  0751"},
		{"stat /", "User:     3"},
		{"cat /etc/hello", "hello\n"},
		{"cat /early", "hello\n"},
		{"stat /etc/hello", "Links: 3"},
		{"stat /etc/hello", "mtime: 0x6553f100:1d6f3454"},
		{"stat /etc", "Mode:  0755"},
		{"stat /bin/sudo", "Mode:  04755"},
		{"stat /bin/sudo", "User: 70000   Group: 80000"},
		{"stat /tmp", "Mode:  01777"},
		{"ea_list /bin/ping", "security.capability (20) = 01 00 00 02 00 20 00 00"},
		{"ea_get /attrs user.small", "v"},
		{"ea_list /attrs", "user.empty (0)"},
		{"ea_get /attrs user.large", strings.Repeat("L", 3000)},
		{"ea_get /attrs trusted.t", strings.Repeat("T", 70)},
		{"ea_list /acl", "system.posix_acl_access (28) = 01 00 00 00 01 00 06 00 02 00 07 00 e8 03 00 00 04 00 04 00"},
		{"stat /short", `Fast link dest: "etc/hello"`},
		{"stat /long", "Size: 250"},
		{"cat /long", long},
		{"stat /dev/null", "character special"},
		{"stat /dev/null", "Device major/minor number: 01:03"},
		{"stat /dev/big", "Device major/minor number: 259:70000"},
		{"stat /pipe", "Type: FIFO"},
		{"stat /old", "mtime: 0xfffeae80:00000000"},
		{"stat /late", "mtime: 0x00000005:"},
		{"cat /" + strings.Repeat("n", 255), "longest name"},
		{"show_super_stats -h", "Filesystem volume name:   test"},
		{"show_super_stats -h", "has_journal"},
	}
	for _, tt := range tests {
		if got := debugfs(t, image, tt.command); !strings.Contains(got, tt.want) {
			t.Errorf("%.80s: no %.200q in\n%.2000s", tt.command, tt.want, got)
		}
	}
	if got := debugfs(t, image, "ea_list /attrs"); strings.Contains(got, "apple") {
		t.Errorf("an attribute of another system was kept:\n%s", got)
	}
}

func TestLaterEntriesReplaceEarlierOnes(t *testing.T) {
	tests := []struct {
		name     string
		entries  []entry
		path     string
		want     string
		notFound string
	}{
		{"file by file", []entry{file("a", "1"), file("a", "2")}, "a", "2", ""},
		{"file by directory", []entry{file("a", "1"), file("a/b", "2")}, "", "", ""},
		{"file by an explicit directory", []entry{file("a", "1"), dir("a"), file("a/b", "2")}, "a/b", "2", ""},
		{"directory by file", []entry{file("a/b/c", "1"), file("a", "2")}, "a", "2", "a/b/c"},
		{"directories are merged", []entry{file("a/b", "1"), dir("a"), file("a/c", "2")}, "a/b", "1", ""},
		{"directory by a link to what is in it", []entry{file("a/b", "1"), hardlink("a", "a/b")}, "a", "1", "a/b"},
		{"a linked file lives on", []entry{file("a", "1"), hardlink("b", "a"), file("a", "2")}, "b", "1", ""},
		{"a link to itself", []entry{file("a", "1"), hardlink("a", "a")}, "a", "1", ""},
		{"through a symbolic link", []entry{dir("usr/bin"), symlink("bin", "usr/bin"), file("bin/x", "1")}, "usr/bin/x", "1", ""},
		{"through an absolute link", []entry{dir("usr/bin"), symlink("bin", "/usr/bin"), file("bin/x", "1")}, "usr/bin/x", "1", ""},
		{"through a dangling link", []entry{symlink("bin", "usr/bin"), file("bin/x", "1")}, "usr/bin/x", "1", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "image")
			err := FromTar(t.Context(), archive(t, tt.entries...), path, Options{ReadOnly: true})
			if tt.path == "" {
				if err == nil {
					t.Fatal("no error")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			fsck(t, path)
			if got := debugfs(t, path, "cat /"+tt.path); !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s holds %q, want %q", tt.path, got, tt.want)
			}
			if tt.notFound != "" {
				if got := debugfs(t, path, "stat /"+tt.notFound); !strings.Contains(got, "not found") && !strings.Contains(got, "not a directory") {
					t.Errorf("%s is still there: %s", tt.notFound, got)
				}
			}
		})
	}
}

func TestNamesStayInTheImage(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "outside")
	image := convert(t, archive(t,
		file("../../../../"+outside, "1"),
		file("/abs", "2"),
		symlink("up", "../../../.."),
		file("up/inside", "3"),
		hardlink("passwd", "../../abs"),
		symlink("leak", "/etc/shadow"),
		file("a//.//b", "4"),
	), Options{})
	for path, want := range map[string]string{
		outside: "1", "/abs": "2", "/inside": "3", "/passwd": "2", "/a/b": "4",
	} {
		if got := debugfs(t, image, "cat "+path); !strings.HasPrefix(got, want) {
			t.Errorf("%s holds %q, want %q", path, got, want)
		}
	}
	if _, err := os.Lstat(outside); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was made on the host: %v", err)
	}
}

func TestBadArchivesAreRefused(t *testing.T) {
	xattr := func(name, value string) entry {
		return entry{tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr." + name: value}}, ""}
	}
	tests := []struct {
		name    string
		entries []entry
		want    string
	}{
		{"link to nothing", []entry{hardlink("a", "b")}, "not in the archive"},
		{"links in a circle", []entry{hardlink("a", "b"), hardlink("b", "a")}, "not in the archive"},
		{"link to a directory", []entry{dir("d"), hardlink("a", "d")}, "is a directory"},
		{"link to the root", []entry{hardlink("a", "/")}, "not in the archive"},
		{"symbolic links in a circle", []entry{symlink("a", "b"), symlink("b", "a"), file("a/x", "")}, "too many symbolic links"},
		{"file as a directory", []entry{file("a", ""), file("a/b/c", "")}, "not a directory"},
		{"file as the root", []entry{file(".", "")}, "root of the archive"},
		{"long element", []entry{file(strings.Repeat("n", 256), "")}, "longer than 255"},
		{"long element on the way", []entry{file(strings.Repeat("n", 256)+"/x", "")}, "longer than 255"},
		{"long name", []entry{file(strings.Repeat("n/", 2100)+"n", "")}, "longer than 4096"},
		{"long target", []entry{symlink("a", strings.Repeat("n/", 2100))}, "symbolic link"},
		{"too much data", []entry{file("a", strings.Repeat("x", 60<<10)), file("b", strings.Repeat("x", 60<<10))}, "larger than"},
		{"too many files", []entry{file("a/b/c/d/e/f/g/h/i/j/k", "")}, "more than 10 files"},
		{"large attribute", []entry{xattr("user.a", strings.Repeat("x", 5000))}, "more than one block"},
		{"attribute without a name", []entry{xattr("user.", "x")}, "name is empty"},
		{"broken ACL", []entry{xattr("system.posix_acl_access", "\x02\x00\x00\x00\x01")}, "not a POSIX ACL"},
		{"device number", []entry{{tar.Header{Name: "d", Typeflag: tar.TypeChar, Devmajor: 5000}, ""}}, "out of range"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			err := FromTar(t.Context(), archive(t, tt.entries...), filepath.Join(dir, "image"), Options{MaxSize: 100 << 10, MaxFiles: 10})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestBrokenStreamLeavesNothing(t *testing.T) {
	whole := archive(t, file("a", strings.Repeat("x", 10000))).Bytes()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx  context.Context
		data []byte
		want error
	}{
		"truncated": {t.Context(), whole[:5000], io.ErrUnexpectedEOF},
		"garbage":   {t.Context(), bytes.Repeat([]byte("garbage!"), 1000), tar.ErrHeader},
		"cancelled": {cancelled, whole, context.Canceled},
	} {
		dir := t.TempDir()
		if err := FromTar(tt.ctx, bytes.NewReader(tt.data), filepath.Join(dir, "image"), Options{}); !errors.Is(err, tt.want) {
			t.Errorf("%s: error %v, want %v", name, err, tt.want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
}

func TestSizes(t *testing.T) {
	const group = 128 << 20
	many := make([]entry, 20000)
	for i := range many {
		many[i] = file(fmt.Sprintf("d%d/a-file-with-some-name-%d", i%3, i), "")
	}
	deep := []entry{file(strings.Repeat("d/", 1500)+"f", "deep")}
	tests := []struct {
		name     string
		entries  []entry
		opts     Options
		min, max int64
	}{
		{"empty", nil, Options{}, group, group},
		{"empty, read-only", nil, Options{ReadOnly: true}, 1, 4 << 20},
		{"at least", nil, Options{MinSize: 3<<30 - 5}, 3 << 30, 3 << 30},
		{"beyond one descriptor block", nil, Options{MinSize: 100 << 30}, 100 << 30, 100 << 30},
		{"many backup groups", nil, Options{MinSize: 200 << 30}, 200 << 30, 200 << 30},
		{"many files", many, Options{}, 3 * group, 3 * group},
		{"many files, read-only", many, Options{ReadOnly: true}, 2 * group, 3 * group},
		{"deep", deep, Options{}, group, group},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			st, err := os.Stat(convert(t, archive(t, tt.entries...), tt.opts))
			if err != nil {
				t.Fatal(err)
			}
			if st.Size() < tt.min || st.Size() > tt.max {
				t.Errorf("size %d, want %d to %d", st.Size(), tt.min, tt.max)
			}
		})
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Label: "longer than 16 bytes"}, {MinSize: -1}, {MinSize: 1 << 50}, {MaxSize: -1}} {
		path := filepath.Join(t.TempDir(), "image")
		if err := FromTar(t.Context(), archive(t), path, o); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// TestManyExtents makes files whose extents need trees of each depth.
func TestManyExtents(t *testing.T) {
	for _, runs := range []int{3, 100, 1500} {
		var b bytes.Buffer
		for i := range runs {
			b.Write(bytes.Repeat([]byte{byte(i + 1)}, holeSize/2))
			b.WriteString(strings.Repeat("\x01", holeSize/2))
			b.Write(make([]byte, holeSize))
		}
		image := convert(t, archive(t, file("f", b.String())), Options{})
		if got := debugfs(t, image, "cat /f"); !strings.HasPrefix(got, b.String()) {
			t.Errorf("%d runs: the content differs", runs)
		}
		st, err := os.Stat(image)
		if err != nil {
			t.Fatal(err)
		}
		if used := diskUsage(st); used > int64(b.Len())*6/10+4<<20 {
			t.Errorf("%d runs: %d bytes on the host for %d, half of them zeros", runs, used, b.Len())
		}
	}
}

func FuzzFromTar(f *testing.F) {
	for _, e := range [][]entry{
		{file("a", "data"), hardlink("b", "a"), symlink("c", "a")},
		{hardlink("a", "b"), file("b/../../c", "x"), dir("b")},
		{symlink("a", "a"), file("a/b", "x")},
		{{tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}}, ""}},
	} {
		f.Add(archive(f, e...).Bytes())
	}
	check := tool(f, "e2fsck")
	f.Fuzz(func(t *testing.T, data []byte) {
		o := Options{ReadOnly: true, MaxSize: 1 << 20, MaxFiles: 100}
		if err := o.complete(); err != nil {
			t.Fatal(err)
		}
		image, err := os.CreateTemp(t.TempDir(), "image")
		if err != nil {
			t.Fatal(err)
		}
		defer image.Close()
		// Not FromTar: waiting for the disk would make fuzzing slow.
		if err := write(t.Context(), bytes.NewReader(data), image, o); err != nil {
			return
		}
		if out, err := exec.Command(check, "-fn", image.Name()).CombinedOutput(); err != nil {
			t.Fatalf("e2fsck: %v\n%s", err, out)
		}
	})
}
