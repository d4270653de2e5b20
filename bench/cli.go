package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// cli runs sbx with directories of its own, but with the user's cache.
type cli struct {
	bin     string
	env     []string
	runtime string
}

func newCLI(bin, dir string) *cli {
	c := &cli{bin: bin, runtime: filepath.Join(dir, "r", "sbx")}
	c.env = append(os.Environ(),
		"XDG_CONFIG_HOME="+filepath.Join(dir, "c"),
		"XDG_STATE_HOME="+filepath.Join(dir, "s"),
		"XDG_RUNTIME_DIR="+filepath.Join(dir, "r"),
	)
	return c
}

// command prepares sbx with args.
func (c *cli) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin, args...)
	cmd.Env = c.env
	return cmd
}

// run returns what sbx printed.
func (c *cli) run(ctx context.Context, args ...string) (string, error) {
	cmd := c.command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("sbx %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// timed is run for its duration.
func (c *cli) timed(ctx context.Context, args ...string) (time.Duration, error) {
	start := time.Now()
	_, err := c.run(ctx, args...)
	return time.Since(start), err
}

// removeAll removes whatever sandboxes a failed section left.
func (c *cli) removeAll() {
	ctx := context.Background()
	names, err := c.run(ctx, "ls", "-q")
	if err != nil {
		return
	}
	for _, name := range strings.Fields(names) {
		if _, err := c.run(ctx, "rm", "--force", name); err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
		}
	}
}
