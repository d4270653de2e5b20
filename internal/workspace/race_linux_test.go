package workspace

import (
	"context"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// While the host (or another program in the guest) swaps a directory for a link
// to the outside, the guest does everything it can through that name.
func TestSwapsNeverLeadOut(t *testing.T) {
	for _, side := range []string{"host", "guest"} {
		eachMode(t, func(t *testing.T, x *fixture) {
			swapAgainstGuest(t, x, map[string]string{"host": x.hostRW, "guest": x.rw}[side])
		})
	}
}

func swapAgainstGuest(t *testing.T, x *fixture, swapIn string) {
	must(t, os.Mkdir(x.outside+"/sub", 0o755))
	write(t, x.outside+"/sub/f", "canary")
	mkdir(t, x.hostRW+"/real")
	mkdir(t, x.hostRW+"/real/sub")
	write(t, x.hostRW+"/real/secret", "inside")
	write(t, x.hostRW+"/real/sub/f", "inside")
	must(t, os.Symlink(x.outside, x.hostRW+"/link"))
	before := snapshot(t, x.outside)

	ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		at := unix.AT_FDCWD
		for ctx.Err() == nil {
			_ = unix.Renameat2(at, swapIn+"/real", at, swapIn+"/link", unix.RENAME_EXCHANGE)
		}
	})
	for i := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for ctx.Err() == nil {
				hammer(t, x, rng)
			}
		})
	}
	wg.Wait()
	if after := snapshot(t, x.outside); after != before {
		t.Errorf("the outside changed from\n%s\nto\n%s", before, after)
	}
}

// hammer does one operation below the name that is swapped. It never follows a
// link itself: here "the guest" could reach the outside without the server.
func hammer(t *testing.T, x *fixture, rng *rand.Rand) {
	dir, err := unix.Open(x.rw+"/real", unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return
	}
	defer unix.Close(dir)
	names := []string{"secret", "sub", "new", "new2"}
	name, other := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
	path := "/proc/self/fd/" + itoa(dir)
	switch rng.IntN(16) {
	case 0:
		readInside(t, dir, name)
	case 1:
		fd, err := unix.Openat(dir, name, unix.O_CREAT|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o644)
		if err == nil {
			_, _ = unix.Write(fd, []byte("inside"))
			unix.Close(fd)
		}
	case 2:
		_ = unix.Mkdirat(dir, name, 0o755)
	case 3:
		_ = unix.Unlinkat(dir, name, rng.IntN(2)*unix.AT_REMOVEDIR)
	case 4:
		_ = unix.Renameat2(dir, name, dir, other, uint(rng.IntN(2)*unix.RENAME_EXCHANGE))
	case 5:
		_ = unix.Linkat(dir, name, dir, other, 0)
	case 6:
		_ = unix.Symlinkat(x.outside, dir, name)
	case 7:
		_ = unix.Fchmodat(dir, name, 0o777, unix.AT_SYMLINK_NOFOLLOW)
	case 8:
		_ = unix.UtimesNanoAt(dir, name, []unix.Timespec{{Sec: 1}, {Sec: 1}}, unix.AT_SYMLINK_NOFOLLOW)
	case 9:
		_ = unix.Mknodat(dir, name, unix.S_IFIFO|0o644, 0)
	case 10:
		_ = unix.Lsetxattr(path+"/"+name, "user.k", []byte("v"), 0)
	case 11:
		var st unix.Stat_t
		_ = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	case 12:
		_, _ = os.ReadDir(path + "/.")
	case 13:
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err == nil {
			unix.Close(fd)
		}
	case 14:
		fd, err := unix.Openat(dir, ".", unix.O_TMPFILE|unix.O_RDWR, 0o644)
		if err == nil {
			unix.Close(fd)
		}
	case 15:
		_, _ = os.Readlink(path + "/" + name)
	}
}

func readInside(t *testing.T, dir int, name string) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	buf := make([]byte, 64)
	if n, _ := unix.Read(fd, buf); n > 0 && strings.Contains(string(buf[:n]), "canary") {
		t.Errorf("the guest read %q", buf[:n])
	}
}

// Handles come and go while others read: nobody gets another file's data.
func TestHandlesAreNotMixedUp(t *testing.T) {
	eachMode(t, func(t *testing.T, x *fixture) {
		const files = 16
		for i := range files {
			write(t, x.hostRW+"/"+itoa(i), strings.Repeat(itoa(i)+" ", 1000))
		}
		var wg sync.WaitGroup
		for i := range files {
			wg.Go(func() {
				for range 40 {
					fd, err := unix.Open(x.rw+"/"+itoa(i), unix.O_RDONLY, 0)
					if err != nil {
						continue // scarce: too many handles at once
					}
					buf := make([]byte, 1<<16)
					n, _ := unix.Read(fd, buf)
					if got := string(buf[:n]); got != strings.Repeat(itoa(i)+" ", 1000) {
						t.Errorf("file %d has %.20q", i, got)
					}
					unix.Close(fd)
				}
			})
		}
		wg.Wait()
	})
}
