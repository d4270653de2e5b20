// Command init is the smallest PID 1 that proves a prepared kernel: it loads
// the boot modules, mounts the modules image from the first disk, and says so.
package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println("test: PID", os.Getpid())
	if err := prove(); err != nil {
		fmt.Println("test: FAILED:", err)
	} else {
		fmt.Println("test: PASSED")
	}
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func prove() error {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mounting /proc: %w", err)
	}
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); err != nil {
		return fmt.Errorf("mounting /dev: %w", err)
	}
	load, err := os.Open("/modules/load")
	if err != nil {
		return err
	}
	for sc := bufio.NewScanner(load); sc.Scan(); {
		if err := insert(filepath.Join("/modules", sc.Text())); err != nil {
			return fmt.Errorf("loading %s: %w", sc.Text(), err)
		}
		fmt.Println("test: loaded", sc.Text())
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	fmt.Println("test: release", unix.ByteSliceToString(u.Release[:]))
	if err := unix.Mount("/dev/vda", "/newroot", "ext4", unix.MS_RDONLY, ""); err != nil {
		return fmt.Errorf("mounting the modules image: %w", err)
	}
	dep, err := os.ReadFile("/newroot/modules.dep")
	if err != nil {
		return err
	}
	first, _, _ := strings.Cut(string(dep), ":")
	if _, err := os.Stat(filepath.Join("/newroot", first)); err != nil {
		return err
	}
	return nil
}

func insert(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
