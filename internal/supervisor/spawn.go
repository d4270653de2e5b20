package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sbx/internal/sandbox"
)

// eventsFD is the descriptor on which a spawned supervisor writes Events.
const eventsFD = 3

// Spawn starts the supervisor of a sandbox and returns when the sandbox runs.
// Warnings go to warn. If another process starts or runs the sandbox already,
// Spawn waits for that one. Cancelling ctx gives up waiting, not the start.
func Spawn(ctx context.Context, store *sandbox.Store, name string, warn func(string)) error {
	for {
		if err := checkSocketPath(store.RuntimeDir(name)); err != nil {
			return err
		}
		err := spawnOnce(ctx, store, name, warn)
		if !errors.Is(err, sandbox.ErrLocked) {
			return err
		}
		if done, err := joinOther(ctx, store, name); done {
			return err
		}
	}
}

// joinOther waits for the process that has the sandbox now: done when that one
// made it run, or failed to; not done when it has ended the sandbox.
func joinOther(ctx context.Context, store *sandbox.Store, name string) (done bool, err error) {
	for store.Locked(name) {
		err := NewClient(store.RuntimeDir(name)).WaitReady(ctx)
		switch {
		case err == nil, ctx.Err() != nil:
			return true, err
		case !errors.Is(err, ErrNotRunning) && !errors.Is(err, errEnding):
			return true, fmt.Errorf("sandbox %q: %w", name, err)
		}
		// It has no socket yet, or soon none any more.
		select {
		case <-ctx.Done():
			return true, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false, nil
}

func spawnOnce(ctx context.Context, store *sandbox.Store, name string, warn func(string)) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := openLog(filepath.Join(store.Dir(name), "supervisor.log"))
	if err != nil {
		return fmt.Errorf("sandbox %q: cannot open its log: %w", name, err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(exe, "supervise", name)
	cmd.Dir = "/"
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w} // descriptor eventsFD
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("sandbox %q: cannot start its supervisor: %w", name, err)
	}
	go cmd.Wait() // reaps it, should it end before us
	stop := context.AfterFunc(ctx, func() { r.Close() })
	defer stop()
	err = follow(r, name, warn)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !errors.Is(err, sandbox.ErrLocked) {
		return fmt.Errorf("sandbox %q: %w", name, err)
	}
	return err
}

// follow reads Events until the supervisor is ready or has failed.
func follow(r *os.File, name string, warn func(string)) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return fmt.Errorf("its supervisor wrote nonsense: %w", err)
		}
		switch {
		case e.Ready:
			return nil
		case e.Locked:
			return sandbox.ErrLocked
		case e.Error != "":
			return errors.New(e.Error)
		case e.Warn != "":
			warn(e.Warn)
		}
	}
	return fmt.Errorf("its supervisor died while starting; see: sbx logs --supervisor %s", name)
}

// environment is what a supervisor inherits: where files are and how to find
// programs. Whatever else the user has in the environment, secrets maybe, is no
// business of a process that lives next to a hostile guest.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case name == "PATH", name == "HOME", name == "TMPDIR", name == "LANG", strings.HasPrefix(name, "XDG_"), strings.HasPrefix(name, "SBX_"):
			env = append(env, kv)
		}
	}
	return env
}

// checkSocketPath refuses runtime directories in which sockets can't be bound.
func checkSocketPath(dir string) error {
	if n := len(filepath.Join(dir, longestSocket)); n > maxSocketPath {
		return fmt.Errorf("the path of the sandbox's sockets, %s, is too long by %d bytes (unix sockets allow %d); set XDG_RUNTIME_DIR to a shorter folder, or give the sandbox a shorter --name", dir, n-maxSocketPath, maxSocketPath)
	}
	return nil
}
