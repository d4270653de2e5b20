package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
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
failed before it began.`,
		Example: `  sbx exec web make test
  sbx exec -it web bash
  tar c src | sbx exec -i web tar x -C /tmp`,
		Args:              atLeast(2),
		ValidArgsFunction: a.completeOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			name, argv := args[0], args[1:]
			if argv[0] == "--" {
				argv = argv[1:]
			}
			if len(argv) == 0 {
				return usageErrorf("name the command to run; usage: %s", cmd.UseLine())
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

func (a *app) exec(ctx context.Context, name, user string, spawn control.Spawn, input, tty bool) error {
	client, err := a.connect(ctx, name, user)
	if err != nil {
		return notBegun(err)
	}
	defer client.Close()
	streams := control.IO{Stdout: filtered(a.stdout), Stderr: filtered(a.stderr)}
	if input {
		streams.Stdin = a.stdin
	}
	if tty {
		t, err := a.openTerminal(input)
		if err != nil {
			return notBegun(err)
		}
		defer t.Close()
		streams.Terminal = t.control
	}
	signals, stop := forwardedSignals()
	defer stop()
	streams.Signals = signals
	exit, err := client.Exec(context.WithoutCancel(ctx), spawn, streams)
	return exitStatus(exit, err)
}

// filtered keeps what a hostile program could do to the user's terminal from
// it; what goes elsewhere passes untouched.
func filtered(w io.Writer) io.Writer {
	if isTerminal(w) {
		return term.Filter(w)
	}
	return w
}

// forwardedSignals are sent on to the command instead of ending sbx.
func forwardedSignals() (<-chan os.Signal, func()) {
	c := make(chan os.Signal, 16)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	return c, func() { signal.Stop(c) }
}

// exitStatus turns the end of a command into sbx's exit code.
func exitStatus(exit control.Exit, err error) error {
	if err != nil {
		return notBegun(err)
	}
	if status := exit.Status(); status != 0 {
		return &exitError{code: status}
	}
	return nil
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
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("sandbox %q: its guest does not answer: %w; see: sbx logs %s", name, err, name)
	}
	return client, nil
}

var errNoTerminal = errors.New("standard input is not a terminal")
