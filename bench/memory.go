package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"sbx/internal/progress"
	"sbx/internal/settings"
)

// measureMemory reads what an idle sandbox occupies on the host.
func measureMemory(ctx context.Context, b *bench) (*table, error) {
	const name = "memory"
	folder, err := b.temp("w")
	if err != nil {
		return nil, err
	}
	if _, err := b.cli.run(ctx, "create", "--quiet", "--name", name, "--cpus", strconv.Itoa(machineCPUs), "--memory", settings.FormatSize(machineMemory), "shell", folder); err != nil {
		return nil, err
	}
	defer b.cli.run(context.WithoutCancel(ctx), "rm", "--force", name)
	// Used once, and then left until the guest has returned what it freed.
	if _, err := b.cli.run(ctx, "exec", name, "sh", "-c", "true; sleep 20"); err != nil {
		return nil, err
	}
	monitor, err := findProcess(b.cli.runtime)
	if err != nil {
		return nil, err
	}
	supervisor, err := parent(monitor)
	if err != nil {
		return nil, err
	}
	m, err := resident(monitor)
	if err != nil {
		return nil, err
	}
	if m.guest, err = guestMemory(monitor); err != nil {
		return nil, err
	}
	s, err := resident(supervisor)
	if err != nil {
		return nil, err
	}
	t := &table{head: []string{"", "resident", "of it shared with other processes (programs, libraries)"}}
	t.add("guest's memory (of "+settings.FormatSize(machineMemory)+")", progress.Bytes(m.guest), "")
	t.add("QEMU", progress.Bytes(m.own), progress.Bytes(m.shared))
	t.add("supervisor", progress.Bytes(s.own), progress.Bytes(s.shared))
	t.add("together", progress.Bytes(m.guest+m.own+s.own), progress.Bytes(m.shared+s.shared))
	t.note("A sandbox with a workspace, %d processors and no session, 20 s after its last command.", machineCPUs)
	return t, nil
}

// usage is what one process holds in memory, in bytes.
type usage struct {
	guest  int64 // of the guest's memory
	own    int64 // all else
	shared int64 // the part of own that other processes map too
}

// guestFile is in the name of the file that is the guest's memory: QEMU and
// the supervisor both map it.
const guestFile = "/memfd:memory-backend"

// guestMemory is what that file occupies, whoever has touched it.
func guestMemory(pid int) (int64, error) {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return 0, err
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || !strings.HasPrefix(target, guestFile) {
			continue
		}
		info, err := os.Stat(fd)
		if err != nil {
			return 0, err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return 0, errors.New("this system doesn't say what a file occupies")
		}
		return int64(st.Blocks) * 512, nil
	}
	return 0, errors.New("cannot find the guest's memory")
}

// resident sums up smaps (proc_pid_smaps(5)), without the guest's memory.
func resident(pid int) (usage, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		return usage{}, err
	}
	defer f.Close()
	var u usage
	guest := false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) >= 5 && strings.Contains(fields[0], "-") {
			guest = strings.Contains(lines.Text(), guestFile)
			continue
		}
		if len(fields) < 2 {
			continue
		}
		kb, err := strconv.ParseInt(fields[1], 10, 64)
		if err != nil {
			continue
		}
		switch {
		case guest:
		case fields[0] == "Rss:":
			u.own += kb << 10
		case fields[0] == "Shared_Clean:" || fields[0] == "Shared_Dirty:":
			u.shared += kb << 10
		}
	}
	return u, lines.Err()
}

// findProcess finds the QEMU whose command line names a file below dir.
func findProcess(dir string) (int, error) {
	entries, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range entries {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		program, _, _ := strings.Cut(string(data), "\x00")
		if strings.Contains(filepath.Base(program), "qemu") && strings.Contains(string(data), dir+"/") {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, errors.New("cannot find the sandbox's QEMU")
}

func parent(pid int) (int, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The name, in parentheses, may hold anything.
	_, rest, ok := strings.Cut(string(data[strings.LastIndex(string(data), ")")+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 {
		return 0, fmt.Errorf("cannot read the parent of process %d", pid)
	}
	return strconv.Atoi(fields[1])
}
