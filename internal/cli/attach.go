package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	err = a.session(ctx, r.Name, "", func(client *control.Client) (control.Exit, error) {
		if len(args) > 0 {
			a.warnIgnored(ctx, client, r.Name)
		}
		return a.attachTerminal(ctx, client, control.Attach{Name: agentSession, Spawn: &control.Spawn{Argv: command}})
	})
	if !errors.Is(err, control.ErrDetached) {
		return err
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause // the terminal went away, most likely
	}
	fmt.Fprintf(a.stderr, "\nsbx: detached; the agent goes on. Come back with: sbx run --name %s\n", r.Name)
	return nil
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
		return control.Exit{}, notBegun(err)
	}
	defer t.Close()
	keys := newDetachReader(a.stdin, a.settings.DetachKeys())
	out := term.Filter(a.stdout)
	return client.Attach(ctx, request, control.IO{
		Stdin:    keys,
		Stdout:   out,
		Stderr:   out,
		Terminal: t.control,
		Detach:   keys.detached,
	})
}

// beginSession starts the agent's session, if there is none, and leaves it.
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
	there, err := hasSession(ctx, client)
	if there && len(args) > 0 {
		a.warn(ignored(r.Name))
	}
	if there || err != nil {
		return err
	}
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	detach, watched := make(chan struct{}), make(chan error, 1)
	go func() {
		watched <- untilSession(watch, client)
		close(detach)
	}()
	exit, err := client.Attach(ctx, control.Attach{Name: agentSession, Spawn: &control.Spawn{Argv: command}}, control.IO{
		Terminal: &control.Terminal{Term: "xterm-256color", Width: 80, Height: 24},
		Detach:   detach,
	})
	client.Close() // ends a question that waits for its answer
	cancel()
	watchErr := <-watched
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, control.ErrDetached):
		return watchErr
	case err == nil && exit.Status() != 0:
		return fmt.Errorf("sandbox %q: the agent ended at once with exit code %d; see what it says with: sbx run --name %s", r.Name, exit.Status(), r.Name)
	}
	return err
}

// warnIgnored tells one who gives arguments to an agent that runs already.
func (a *app) warnIgnored(ctx context.Context, client *control.Client, name string) {
	if there, err := hasSession(ctx, client); err == nil && there {
		a.warn(ignored(name))
	}
}

func ignored(name string) string {
	return fmt.Sprintf("the agent of sandbox %s runs already; the arguments after -- are ignored", name)
}

// untilSession returns when the guest has the agent's session.
func untilSession(ctx context.Context, client *control.Client) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if there, err := hasSession(ctx, client); there || err != nil {
			return err
		}
	}
}

func hasSession(ctx context.Context, client *control.Client) (bool, error) {
	stats, err := client.Stats(ctx)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(stats.Sessions, func(s control.Session) bool { return s.Name == agentSession }), nil
}
