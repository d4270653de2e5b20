package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"sbx/internal/settings"
	"sbx/internal/vmm"
	"sbx/internal/vmm/qemu"
	"sbx/internal/workspace"
)

// bootLimit is how many times the floor a sandbox may take.
const bootLimit = 1.5

// measureBoot compares sbx create and the first sbx exec with the same machine
// that only gets to PID 1, in turns.
func measureBoot(ctx context.Context, b *bench) (*table, error) {
	floorInit := filepath.Join(b.dir, "floor.cpio")
	if err := writeFloor(floorInit); err != nil {
		return nil, err
	}
	folder, err := b.temp("w")
	if err != nil {
		return nil, err
	}
	var floor, create, answer sample
	for i := range b.runs {
		f, err := b.floor(ctx, floorInit)
		if err != nil {
			return nil, fmt.Errorf("the floor: %w", err)
		}
		c, e, err := b.firstAnswer(ctx, "boot"+strconv.Itoa(i), folder)
		if err != nil {
			return nil, err
		}
		floor, create, answer = append(floor, f), append(create, c), append(answer, c+e)
		b.log("run %d: PID 1 after %s, create %s, answer %s", i+1, seconds(f), seconds(c), seconds(c+e))
	}
	t := &table{head: []string{"", "median", "spread", "ratio to the floor"}}
	t.add("the floor: QEMU to a PID 1 that prints a line", seconds(floor.median()), floor.spread(), "1")
	t.add("`sbx create` returns", seconds(create.median()), create.spread(), ratio(create.median(), floor.median()))
	t.add("and the first `sbx exec` answers", seconds(answer.median()), answer.spread(), ratio(answer.median(), floor.median()))
	kept := float64(answer.median()) <= bootLimit*float64(floor.median())
	t.note("Limit: %.1f times the floor: %s. %d runs each, in turns.", bootLimit, verdict(kept), b.runs)
	return t, nil
}

// firstAnswer makes a sandbox on folder and asks it something.
func (b *bench) firstAnswer(ctx context.Context, name, folder string) (create, exec time.Duration, err error) {
	if create, err = b.cli.timed(ctx, "create", "--quiet", "--name", name, "--cpus", strconv.Itoa(machineCPUs), "--memory", settings.FormatSize(machineMemory), "shell", folder); err != nil {
		return 0, 0, err
	}
	if exec, err = b.cli.timed(ctx, "exec", name, "true"); err != nil {
		return 0, 0, err
	}
	_, err = b.cli.run(ctx, "rm", "--force", name)
	return create, exec, err
}

// floor starts the machine of a sandbox, workspace device included, with an
// init that only prints a line.
func (b *bench) floor(ctx context.Context, initrd string) (time.Duration, error) {
	dir, err := b.machineDir()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "fs.sock")
	server, err := workspace.Serve(ctx, socket, []workspace.Folder{{Name: "0", Path: dir}}, workspace.Options{})
	if err != nil {
		return 0, err
	}
	defer server.Close()
	c, err := b.config(ctx, dir, socket)
	if err != nil {
		return 0, err
	}
	seen := &watcher{want: []byte(floorText[:len(floorText)-1]), found: make(chan struct{})}
	c.Initrd, c.Console = initrd, seen
	start := time.Now()
	m, err := qemu.New(b.qemu).Start(ctx, c)
	if err != nil {
		return 0, err
	}
	defer m.Kill()
	return waitFor(ctx, m, seen.found, start)
}

func waitFor(ctx context.Context, m vmm.Machine, found <-chan struct{}, start time.Time) (time.Duration, error) {
	select {
	case <-found:
		return time.Since(start), nil
	case <-m.Done():
		return 0, errors.Join(errors.New("the machine ended"), m.Err())
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// watcher closes found when want has been written to it.
type watcher struct {
	want  []byte
	found chan struct{}
	once  sync.Once
	seen  []byte
}

func (w *watcher) Write(p []byte) (int, error) {
	w.seen = append(w.seen, p...)
	if bytes.Contains(w.seen, w.want) {
		w.once.Do(func() { close(w.found) })
	}
	return len(p), nil
}
