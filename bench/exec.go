package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"sbx/internal/settings"
)

// execLimit is how many times ssh on the same computer a command may take,
// beyond what the guest needs to start a program.
const execLimit = 1.5

// measureExec compares sbx exec in a running sandbox with ssh to a server on
// this computer, in turns.
func measureExec(ctx context.Context, b *bench) (*table, error) {
	const name = "exec"
	if _, err := b.cli.run(ctx, "create", "--quiet", "--name", name, "--cpus", strconv.Itoa(machineCPUs), "--memory", settings.FormatSize(machineMemory), "shell"); err != nil {
		return nil, err
	}
	defer b.cli.run(context.WithoutCancel(ctx), "rm", "--force", name)
	forkExec, err := b.forkExec(ctx, name)
	if err != nil {
		return nil, err
	}
	server, sshErr := startSSH(ctx, b)
	if sshErr == nil {
		defer server.close()
	}
	var ours, theirs sample
	for range max(b.runs, 5) * 3 { // short: more of them cost little
		d, err := b.cli.timed(ctx, "exec", name, "true")
		if err != nil {
			return nil, err
		}
		ours = append(ours, d)
		if sshErr != nil {
			continue
		}
		if d, err = timeCommand(server.command(ctx, "true")); err != nil {
			return nil, fmt.Errorf("ssh: %w", err)
		}
		theirs = append(theirs, d)
	}
	t := &table{head: []string{"", "median", "spread"}}
	t.add("`sbx exec NAME true`", seconds(ours.median()), ours.spread())
	t.add("`ssh localhost true`", seconds(theirs.median()), theirs.spread())
	t.add("fork and exec of `true` inside the guest", seconds(forkExec), "")
	if sshErr != nil {
		t.note("Without ssh: %v.", sshErr)
		return t, nil
	}
	limit := time.Duration(execLimit*float64(theirs.median())) + forkExec
	t.note("Limit: %.1f times ssh plus the guest's own fork and exec, %s: %s. %d runs each, in turns.", execLimit, seconds(limit), verdict(ours.median() <= limit), len(ours))
	return t, nil
}

// forkExec is how long the guest takes to start and end a program, from many
// in a row; the shell's own loop costs next to nothing.
func (b *bench) forkExec(ctx context.Context, name string) (time.Duration, error) {
	const n = 50
	script := fmt.Sprintf(`s=$(date +%%s%%N); for i in $(seq %d); do /bin/true; done; e=$(date +%%s%%N); echo $((e-s))`, n)
	out, err := b.cli.run(ctx, "exec", name, "bash", "-c", script)
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(out), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the guest measured %q: %w", out, err)
	}
	return time.Duration(ns / n), nil
}

func timeCommand(cmd *exec.Cmd) (time.Duration, error) {
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	return time.Since(start), nil
}
