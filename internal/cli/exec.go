package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"sbx/internal/control"
	"sbx/internal/term"
)

func (a *app) execCommand() *cobra.Command {
	var (
		input, tty    bool
		user, dir     string
		env, envFiles []string
	)
	cmd := &cobra.Command{
		Use:   "exec [-it] [flags] NAME [--] CMD [ARG...]",
		Short: "Run a command in a sandbox",
		Long: `Run a command in a sandbox: as the user agent, in the primary workspace, without
a shell around it. A stopped sandbox is started. The exit code is the command's,
128+N when signal N ended it, 127 when there is no such command, 125 when sbx
failed before it began, 137 when the sandbox was stopped.

Signals go to the command. One that ignores SIGTERM, SIGHUP, or the third
interrupt in a row, is left behind after five seconds.`,
		Example: `  sbx exec web make test
  sbx exec -it web bash
  tar c src | sbx exec -i web tar x -C /tmp`,
		Args:              named("name the sandbox and the command", 2),
		ValidArgsFunction: a.completeOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, argv := args[0], args[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				return usageErrorf("name the command to run; usage: %s", usageLine(cmd))
			}
			if tty && input && !a.interactive() {
				return usageErrorf("-t needs a terminal on standard input; leave it out to pipe data in")
			}
			vars, err := environment(envFiles, env)
			if err != nil {
				return notBegun(err)
			}
			if _, err := a.record(name); err != nil {
				return notBegun(err)
			}
			spawn := control.Spawn{Argv: argv, Env: vars, Dir: dir}
			return a.exec(cmd.Context(), name, user, spawn, input, tty)
		},
	}
	fs := cmd.Flags()
	fs.SetInterspersed(false)
	fs.BoolVarP(&input, "interactive", "i", false, "pass standard input on")
	fs.BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	fs.StringVarP(&user, "user", "u", "", "user to run as (default agent)")
	fs.StringVarP(&dir, "workdir", "w", "", "folder to run in (default: the primary workspace)")
	fs.StringArrayVarP(&env, "env", "e", nil, "environment variable K=V; K alone takes your value")
	fs.StringArrayVar(&envFiles, "env-file", nil, "file of K=V lines")
	return cmd
}

// exec runs a command in a sandbox. Until it has begun, signals end sbx.
func (a *app) exec(ctx context.Context, name, user string, spawn control.Spawn, input, tty bool) error {
	streams := control.IO{Stdout: filtered(a.stdout), Stderr: filtered(a.stderr)}
	if input {
		streams.Stdin = a.stdin
	}
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	forward := newForwarder(abandon)
	streams.Signals = forward.to
	streams.Begun = func() {
		signal.Notify(forward.to, syscall.SIGUSR1, syscall.SIGUSR2)
		a.signals.take(forward.handle)
	}
	defer signal.Stop(forward.to)
	return a.session(ctx, name, user, func(client *control.Client) (control.Exit, error) {
		if tty {
			t, err := a.openTerminal(input)
			if err != nil {
				return control.Exit{}, notBegun(err)
			}
			defer t.Close()
			streams.Terminal = t.control
			if isTerminal(a.stdout) {
				streams.Stdout = term.Filter(a.stdout)
			}
		}
		return client.Exec(ctx, spawn, streams)
	})
}

// session connects and runs something in the guest; how that ends is sbx's end.
// A sandbox that stopped just when we came is started once more.
func (a *app) session(ctx context.Context, name, user string, run func(*control.Client) (control.Exit, error)) error {
	once := func() (control.Exit, error) {
		client, err := a.connect(ctx, name, user)
		if err != nil {
			return control.Exit{}, notBegun(err)
		}
		defer client.Close()
		return run(client)
	}
	exit, err := once()
	if ctx.Err() == nil && errors.Is(err, control.ErrLost) && errors.Is(err, control.ErrNotBegun) {
		exit, err = once()
	}
	return a.exitStatus(name, exit, err)
}

// filtered keeps what a hostile program could do to the user's terminal from
// it; what goes elsewhere passes untouched.
func filtered(w io.Writer) io.Writer {
	if isTerminal(w) {
		return term.Lines(w)
	}
	return w
}

// exitStatus turns the end of a command into sbx's exit code.
func (a *app) exitStatus(name string, exit control.Exit, err error) error {
	switch {
	case err == nil && exit.Status() == 0:
		return nil
	case err == nil:
		return &exitError{code: exit.Status()}
	case errors.Is(err, control.ErrNotBegun):
		return notBegun(fmt.Errorf("sandbox %q: %w", name, err))
	case errors.Is(err, control.ErrLost):
		return &exitError{code: exitKilled, err: a.lost(name, err)}
	case errors.Is(err, syscall.EPIPE): // nobody reads on, as in: sbx exec web yes | head
		return &exitError{code: exitFailed}
	}
	return err
}

// lost says why a connection broke, as far as that can be told.
func (a *app) lost(name string, err error) error {
	if !a.store.Locked(name) {
		return fmt.Errorf("the sandbox %q was stopped", name)
	}
	return fmt.Errorf("sandbox %q: %w, or it is being stopped; see: sbx logs %s", name, err, name)
}

// connect starts the sandbox if need be and logs in to its guest.
func (a *app) connect(ctx context.Context, name, user string) (*control.Client, error) {
	m := a.manager()
	conn, err := m.Client(name).Dial(ctx)
	if err != nil {
		if err := m.Start(ctx, name); err != nil {
			return nil, err
		}
		if conn, err = m.Client(name).Dial(ctx); err != nil {
			return nil, fmt.Errorf("sandbox %q: %w", name, err)
		}
	}
	client, err := control.NewClient(ctx, conn, user)
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("sandbox %q: its guest does not answer: %w; see: sbx logs %s", name, err, name)
	}
	return client, nil
}

var errNoTerminal = errors.New("standard input is not a terminal")
