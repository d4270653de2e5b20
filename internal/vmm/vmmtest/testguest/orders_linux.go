package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// serve answers every order, a line of words, with one line: "ok ..." or
// "error ...".
func serve(r *bufio.Reader, w io.Writer) error {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return err
		}
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		answer, err := obey(words[0], words[1:], r, w)
		if err != nil {
			answer = "error " + strconv.Quote(err.Error())
		} else {
			answer = "ok " + answer
		}
		if _, err := io.WriteString(w, strings.TrimSpace(answer)+"\n"); err != nil {
			return err
		}
	}
}

func obey(order string, args []string, r *bufio.Reader, w io.Writer) (string, error) {
	if len(args) < arity[order] {
		return "", fmt.Errorf("%s wants %d arguments", order, arity[order])
	}
	switch order {
	case "ping":
		return "", nil
	case "echo": // echo N: N bytes follow and come back
		n, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil {
			return "", err
		}
		_, err = io.CopyN(w, r, n)
		return "", err
	case "cpus":
		return strconv.Itoa(runtime.NumCPU()), nil
	case "read": // read PATH
		b, err := os.ReadFile(args[0])
		return strconv.Quote(string(b)), err
	case "list": // list DIR
		names, err := os.ReadDir(args[0])
		var out []string
		for _, n := range names {
			out = append(out, n.Name())
		}
		return strings.Join(out, " "), err
	case "pattern": // pattern write|check DEVICE OFFSET MIB SEED
		return "", pattern(args)
	case "mount": // mount TAG DIR
		return "", mountShare(args[0], args[1])
	case "umount":
		return "", unix.Unmount(args[0], 0)
	case "write": // write PATH BASE64
		b, err := base64.StdEncoding.DecodeString(args[1])
		if err != nil {
			return "", err
		}
		return "", os.WriteFile(args[0], b, 0o644)
	case "console": // console MIB: floods it
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		return "", flood(n)
	case "touch-memory": // touch-memory MIB, then gives it back
		n, err := strconv.Atoi(args[0])
		if err != nil {
			return "", err
		}
		return "", touchMemory(n)
	case "poweroff":
		return "", unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	case "reboot":
		return "", unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	case "panic":
		return "", os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "run":
		b, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		return strconv.Quote(string(b)), err
	}
	return "", fmt.Errorf("unknown order %q", order)
}

// arity is the least number of arguments of the orders that take any.
var arity = map[string]int{
	"echo": 1, "read": 1, "list": 1, "pattern": 5, "mount": 2, "umount": 1,
	"write": 2, "console": 1, "touch-memory": 1, "run": 1,
}

// pattern writes, or compares, MIB blocks that SEED and their place determine,
// past the page cache, and flushes the device.
func pattern(args []string) error {
	var off, mib, seed int64
	if _, err := fmt.Sscan(strings.Join(args[2:], " "), &off, &mib, &seed); err != nil {
		return err
	}
	write := args[0] == "write"
	flag := os.O_RDONLY
	if write {
		flag = os.O_WRONLY
	}
	f, err := os.OpenFile(args[1], flag|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	// Mapped memory is page-aligned, as O_DIRECT wants it.
	got, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := range mib {
		want := bytes.Repeat([]byte{byte(seed + i), byte(seed), byte(i), 0xa5}, 1<<18)
		at := off + i<<20
		if write {
			copy(got, want)
			if _, err := f.WriteAt(got, at); err != nil {
				return err
			}
			continue
		}
		if _, err := f.ReadAt(got, at); err != nil {
			return err
		}
		if !bytes.Equal(got, want) {
			return fmt.Errorf("%s differs in the MiB at %d", args[1], at)
		}
	}
	if write {
		return f.Sync()
	}
	return nil
}

// mountShare waits for the share: the guest learns of a device some time after
// the host has plugged it in, and until then its tag is an invalid argument.
func mountShare(tag, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for {
		err := unix.Mount(tag, dir, "virtiofs", 0, "")
		if err != unix.EINVAL {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}

func flood(mib int) error {
	line := []byte(strings.Repeat("flood ", 170) + "\n")
	for n := 0; n < mib<<20; n += len(line) {
		if _, err := os.Stdout.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func touchMemory(mib int) error {
	b, err := unix.Mmap(-1, 0, mib<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := 0; i < len(b); i += 4096 {
		b[i] = byte(i>>12) | 1
	}
	return unix.Munmap(b)
}
