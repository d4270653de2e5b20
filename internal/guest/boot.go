//go:build linux

package guest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountEarly mounts what must be there before anything else.
func mountEarly() error {
	return mountAll([]mountPoint{
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"proc", "/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{"sysfs", "/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	})
}

type mountPoint struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

// mountAll mounts in order, making the directories that are missing. What the
// kernel has mounted by itself (devtmpfs) is fine.
func mountAll(points []mountPoint) error {
	for _, m := range points {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data)
		if err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s on %s: %w", m.fstype, m.target, err)
		}
	}
	return nil
}

// loadModules loads the files that dir/load names, in its order.
func loadModules(dir string) error {
	list, err := os.Open(filepath.Join(dir, "load"))
	if errors.Is(err, os.ErrNotExist) {
		return nil // everything is built in
	}
	if err != nil {
		return err
	}
	defer list.Close()
	s := bufio.NewScanner(list)
	for s.Scan() {
		name := strings.TrimSpace(s.Text())
		if name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		if err := loadModule(filepath.Join(dir, name)); err != nil {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return s.Err()
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = unix.FinitModule(int(f.Fd()), "", 0)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// openPort opens the virtio-serial port called name, waiting for it: the
// device may be found a moment after its driver was loaded.
func openPort(ctx context.Context, class, name string) (*os.File, error) {
	var path string
	err := poll(ctx, func() bool {
		ports, _ := filepath.Glob(filepath.Join(class, "*", "name"))
		for _, p := range ports {
			text, err := os.ReadFile(p)
			if err == nil && strings.TrimSpace(string(text)) == name {
				path = "/dev/" + filepath.Base(filepath.Dir(p))
				return exists(path)
			}
		}
		return false
	})
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("open the control port: %w", err)
	}
	return f, nil
}

// poll calls found until it is true or ctx is done. The kernel has no common
// way of telling that a device, a file and a file system's tag are there.
func poll(ctx context.Context, found func() bool) error {
	const longest = 50 * time.Millisecond
	for pause := time.Millisecond; !found(); pause = min(2*pause, longest) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
