package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"sbx/internal/control"
	"sbx/internal/kit"
	"sbx/internal/sandbox"
	"sbx/internal/term"
)

// attach joins the agent's session. Without a terminal on both ends there is
// nothing to attach: the agent then runs like any command, as a filter.
func (a *app) attach(ctx context.Context, r *sandbox.Record, args []string) error {
	command, err := a.agentCommand(r, args)
	if err != nil {
		return notBegun(err)
	}
	if !a.interactive() || !isTerminal(a.stdout) {
		return a.exec(ctx, r.Name, "", control.Spawn{Argv: command}, true, false)
	}
	client, err := a.connect(ctx, r.Name, "")
	if err != nil {
		return notBegun(err)
	}
	defer client.Close()
	exit, err := a.attachTerminal(ctx, client, control.Attach{Name: agentSession, Spawn: &control.Spawn{Argv: command}})
	switch {
	case errors.Is(err, control.ErrDetached) && ctx.Err() == nil:
		fmt.Fprintf(a.stderr, "\r\nsbx: detached; the agent goes on. Come back with: sbx run --name %s\n", r.Name)
		return nil
	case errors.Is(err, control.ErrDetached):
		return &exitError{code: 129} // the terminal went away: nobody reads this
	}
	return exitStatus(exit, err)
}

// agentCommand is the command line of the sandbox's agent.
func (a *app) agentCommand(r *sandbox.Record, args []string) ([]string, error) {
	k, err := kit.Find(r.Agent)
	if err != nil {
		return nil, fmt.Errorf("sandbox %q: %w", r.Name, err)
	}
	return k.Command(args), nil
}

func (a *app) attachTerminal(ctx context.Context, client *control.Client, request control.Attach) (control.Exit, error) {
	t, err := a.openTerminal(true)
	if err != nil {
		return control.Exit{}, err
	}
	defer t.Close()
	keys := newDetachReader(a.stdin, a.settings.DetachKeys())
	out := term.Filter(a.stdout)
	defer io.WriteString(a.stdout, term.Reset)
	return client.Attach(ctx, request, control.IO{
		Stdin:    keys,
		Stdout:   out,
		Stderr:   out,
		Terminal: t.control,
		Detach:   keys.detached,
	})
}

// beginSession starts the agent's session, if there is none, and detaches.
func (a *app) beginSession(ctx context.Context, r *sandbox.Record, args []string) error {
	command, err := a.agentCommand(r, args)
	if err != nil {
		return err
	}
	client, err := a.connect(ctx, r.Name, "")
	if err != nil {
		return err
	}
	defer client.Close()
	detach := make(chan struct{})
	begun := sync.OnceFunc(func() { close(detach) })
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	go untilSession(watch, client, begun)
	exit, err := client.Attach(ctx, control.Attach{Name: agentSession, Spawn: &control.Spawn{Argv: command}}, control.IO{
		Stdout:   io.Discard,
		Stderr:   io.Discard,
		Terminal: &control.Terminal{Term: "xterm-256color", Width: 80, Height: 24},
		Detach:   detach,
	})
	if errors.Is(err, control.ErrDetached) {
		return nil
	}
	if err == nil && exit.Status() != 0 {
		return fmt.Errorf("sandbox %q: the agent ended at once with exit code %d; see what it says with: sbx run --name %s", r.Name, exit.Status(), r.Name)
	}
	return err
}

// untilSession calls begun when the guest has the agent's session.
func untilSession(ctx context.Context, client *control.Client, begun func()) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		stats, err := client.Stats(ctx)
		if err != nil {
			return
		}
		for _, s := range stats.Sessions {
			if s.Name == agentSession {
				begun()
			}
		}
	}
}
