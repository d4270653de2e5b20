package workspace

import (
	"bytes"
	"io"
	"math"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSharedMappings(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		mapInChild(t, dir)
		return
	}
	eachMode(t, func(t *testing.T, x *fixture) {
		page := os.Getpagesize()
		must(t, os.WriteFile(x.rw+"/f", bytes.Repeat([]byte("a"), 2*page), 0o644))
		inChild(t, x.rw)
		got := read(t, x.hostRW+"/f")
		if len(got) != 2*page || got[page:page+6] != "mapped" {
			t.Errorf("the host has %d bytes, %q", len(got), got[page:page+6])
		}
		must(t, os.WriteFile(x.rw+"/f", bytes.Repeat([]byte("a"), page), 0o644))
		inChild(t, x.rw, "append")
		if got := read(t, x.hostRW+"/f"); len(got) != page || got[0] != 'Z' {
			t.Errorf("%d bytes after an append handle's mapping, the first is %q", len(got), got[0])
		}
	})
}

// mapInChild runs in a process of its own: a thread that waits for a page can't
// be stopped by Go's garbage collector, which the server may need meanwhile.
func mapInChild(t *testing.T, dir string) {
	page := os.Getpagesize()
	if os.Getenv(childArg) == "append" {
		m := mapFile(t, dir+"/f", os.O_RDWR|os.O_APPEND, page)
		m[0] = 'Z' // written back to where it is, not to the end
		must(t, unix.Msync(m, unix.MS_SYNC))
		return
	}
	m := mapFile(t, dir+"/f", os.O_RDWR, 2*page)
	copy(m[page:], "mapped")
	f, err := os.Open(dir + "/f")
	must(t, err)
	defer f.Close()
	buf := make([]byte, 6)
	_, err = f.ReadAt(buf, int64(page))
	must(t, err)
	if string(buf) != "mapped" {
		t.Errorf("read says %q", buf)
	}
	must(t, unix.Msync(m, unix.MS_SYNC))
	_, err = f.ReadAt(buf, 0)
	must(t, err)
	g, err := os.OpenFile(dir+"/f", os.O_WRONLY, 0)
	must(t, err)
	_, err = g.WriteAt([]byte("b"), 0)
	must(t, err)
	must(t, g.Close())
	if m[0] != 'b' {
		t.Errorf("the mapping has %q", m[0])
	}
}

// mapFile maps a file and closes it: the mapping keeps it open.
func mapFile(t *testing.T, path string, flags, size int) []byte {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0)
	must(t, err)
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	must(t, f.Close())
	return m
}

func TestAppendersDoNotOverwrite(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		const writers, lines = 4, 200
		write(t, x.hostRW+"/log", "")
		appendTo := func(path string, c byte) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
			if err != nil {
				return err
			}
			defer f.Close()
			for range lines {
				if _, err := f.Write([]byte{c, c, c, '\n'}); err != nil {
					return err
				}
			}
			return nil
		}
		var wg sync.WaitGroup
		for i := range writers {
			path := x.rw + "/log"
			if i == 0 {
				path = x.hostRW + "/log" // one of them is on the host
			}
			wg.Go(func() {
				if err := appendTo(path, byte('a'+i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got := read(t, x.hostRW+"/log")
		for i := range writers {
			if n := bytes.Count([]byte(got), []byte{byte('a' + i), byte('a' + i), byte('a' + i), '\n'}); n != lines {
				t.Errorf("writer %d: %d lines of %d", i, n, lines)
			}
		}
	})
}

func TestSparseFiles(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		f, err := os.Create(x.rw + "/f")
		must(t, err)
		defer f.Close()
		fd := int(f.Fd())
		_, err = f.WriteAt([]byte("data"), 1<<20)
		must(t, err)
		must(t, f.Truncate(2<<20))
		off, err := unix.Seek(fd, 0, unix.SEEK_DATA)
		must(t, err)
		if off != 1<<20 {
			t.Errorf("data at %d", off)
		}
		if off, err = unix.Seek(fd, 1<<20, unix.SEEK_HOLE); err != nil || off <= 1<<20 || off > 1<<20+65536 {
			t.Errorf("hole at %d, %v", off, err)
		}
		_, err = unix.Seek(fd, 1<<20+65536, unix.SEEK_DATA)
		wantErr(t, "data after the end", err, unix.ENXIO)
		must(t, unix.Fallocate(fd, 0, 0, 3<<20))
		must(t, unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 1<<20, 4096))
		buf := make([]byte, 4)
		_, err = f.ReadAt(buf, 1<<20)
		must(t, err)
		if !bytes.Equal(buf, make([]byte, 4)) {
			t.Errorf("the hole has %q", buf)
		}
		info, err := os.Stat(x.hostRW + "/f")
		must(t, err)
		if info.Size() != 3<<20 {
			t.Errorf("size %d", info.Size())
		}
		if err := f.Truncate(math.MaxInt64); err == nil {
			t.Log("the host takes 8 EiB files")
		}
	})
}

func TestCopyFileRange(t *testing.T) {
	x := mounted(t, childConfig{})
	must(t, os.WriteFile(x.rw+"/src", bytes.Repeat([]byte("0123456789"), 100000), 0o644))
	src, err := os.Open(x.rw + "/src")
	must(t, err)
	defer src.Close()
	dst, err := os.Create(x.rw + "/dst")
	must(t, err)
	defer dst.Close()
	_, err = io.Copy(dst, src)
	must(t, err)
	if read(t, x.hostRW+"/dst") != read(t, x.hostRW+"/src") {
		t.Error("the copy differs")
	}
}

func TestTruncatingOpens(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		for _, access := range []int{unix.O_RDONLY, unix.O_WRONLY, unix.O_RDWR} {
			write(t, x.rw+"/f", "text")
			fd, err := unix.Open(x.rw+"/f", access|unix.O_TRUNC, 0)
			must(t, err)
			must(t, unix.Close(fd))
			wantText(t, x.hostRW+"/f", "")
		}
	})
}

// Locks are the guest kernel's own: a lock that a program in the guest holds
// excludes another program in the guest.
func TestLocks(t *testing.T) {
	x := mounted(t, childConfig{})
	open := func() int {
		fd, err := unix.Open(x.rw+"/lock", unix.O_CREAT|unix.O_RDWR, 0o644)
		must(t, err)
		return fd
	}
	a, b := open(), open()
	defer unix.Close(b)
	must(t, unix.Flock(a, unix.LOCK_EX|unix.LOCK_NB))
	wantErr(t, "flock", unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB), unix.EWOULDBLOCK)
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	must(t, unix.FcntlFlock(uintptr(a), unix.F_OFD_SETLK, &lock))
	wantErr(t, "fcntl", unix.FcntlFlock(uintptr(b), unix.F_OFD_SETLK, &lock), unix.EAGAIN)
	must(t, unix.Close(a))
	must(t, unix.Flock(b, unix.LOCK_EX|unix.LOCK_NB))
}

func TestTimesAndBirthTime(t *testing.T) {
	x := mounted(t, childConfig{})
	write(t, x.rw+"/f", "")
	want := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 123456789}, {Sec: -5, Nsec: 999_999_999}}
	must(t, unix.UtimesNanoAt(unix.AT_FDCWD, x.rw+"/f", want, 0))
	var g, h unix.Statx_t
	must(t, unix.Statx(unix.AT_FDCWD, x.rw+"/f", 0, unix.STATX_ALL, &g))
	must(t, unix.Statx(unix.AT_FDCWD, x.hostRW+"/f", 0, unix.STATX_ALL, &h))
	if g.Atime != h.Atime || g.Mtime != h.Mtime || h.Atime.Nsec != 123456789 || h.Mtime.Sec != -5 {
		t.Errorf("times: guest %v %v, host %v %v", g.Atime, g.Mtime, h.Atime, h.Mtime)
	}
	if g.Mask&unix.STATX_BTIME != 0 && g.Btime != h.Btime {
		t.Errorf("birth: guest %v, host %v", g.Btime, h.Btime)
	}
	must(t, os.Chtimes(x.rw+"/f", time.Time{}, time.Now()))
}

// within polls for something that the cache may hide for at most a second. The
// bound is generous, for a slow machine; the promise itself is in CacheTTL.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not seen", what)
		}
		time.Sleep(5 * time.Millisecond) // polling, not synchronization
	}
}

func TestChangesOfTheHostAreSeen(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		has := func(name, text string) func() bool {
			return func() bool {
				b, err := os.ReadFile(x.rw + "/" + name)
				return err == nil && string(b) == text
			}
		}
		if has("f", "")() {
			t.Fatal("there is a file")
		}
		write(t, x.hostRW+"/f", "one") // after an absence was cached
		within(t, "new file", has("f", "one"))
		write(t, x.hostRW+"/f", "two") // same size
		within(t, "new content", has("f", "two"))
		write(t, x.hostRW+"/tmp", "three")
		must(t, os.Rename(x.hostRW+"/tmp", x.hostRW+"/f"))
		within(t, "replaced file", has("f", "three"))
		must(t, os.Remove(x.hostRW+"/f"))
		within(t, "removed file", func() bool { _, err := os.Stat(x.rw + "/f"); return err != nil })
		mkdir(t, x.hostRW+"/d")
		mkdir(t, x.hostRW+"/d/e")
		write(t, x.hostRW+"/d/e/f", "deep")
		within(t, "new tree", has("d/e/f", "deep"))
		must(t, os.Rename(x.hostRW+"/d", x.hostRW+"/d2"))
		within(t, "moved tree", has("d2/e/f", "deep"))
		must(t, os.Rename(x.hostRW+"/d2/e", x.hostRW+"/e"))
		must(t, os.Rename(x.hostRW+"/d2", x.hostRW+"/e/d2"))
		within(t, "tree turned inside out", has("e/f", "deep"))
		within(t, "tree turned inside out", func() bool { _, err := os.Stat(x.rw + "/e/d2"); return err == nil })
	})
}

// An open file shows what the host writes to it, also through a cached page.
func TestOpenFileShowsChangesOfTheHost(t *testing.T) {
	x := mounted(t, childConfig{})
	write(t, x.hostRW+"/f", "before")
	f, err := os.Open(x.rw + "/f")
	must(t, err)
	defer f.Close()
	buf := make([]byte, 6)
	_, err = f.ReadAt(buf, 0)
	must(t, err)
	write(t, x.hostRW+"/f", "after!")
	within(t, "new content", func() bool {
		_, _ = f.ReadAt(buf, 0)
		return string(buf) == "after!"
	})
}

func TestFolderThatDisappears(t *testing.T) {
	x := mounted(t, childConfig{})
	write(t, x.rw+"/f", "")
	open, err := os.Open(x.rw + "/f")
	must(t, err)
	defer open.Close()
	must(t, os.RemoveAll(x.hostRW))
	within(t, "error", func() bool { _, err := os.Stat(x.rw + "/f"); return err != nil })
	if err := os.WriteFile(x.rw+"/g", nil, 0o644); err == nil {
		t.Error("a file was created nowhere")
	}
	if err := os.Mkdir(x.rw+"/d", 0o755); err == nil {
		t.Error("a directory was made nowhere")
	}
	entries, _ := os.ReadDir(x.rw)
	if len(entries) > 0 {
		t.Errorf("the folder has %v", entries)
	}
	_, err = open.Stat()
	must(t, err)
	wantText(t, x.ro+"/file", "read me") // the other goes on
}
