package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"sbx/internal/kit"
	"sbx/internal/sandbox"
)

// agentSession is the name of the persistent terminal session of the agent.
const agentSession = "agent"

func (a *app) runCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "run [flags] AGENT [PATH[:ro]...] [-- ARGS...]",
		Short: "Run an agent in a sandbox on a folder, or come back to it",
		Long: `Run an agent in a sandbox on a folder: create the sandbox if there is none yet,
start it, and attach this terminal to the agent. Without a PATH the current
folder is shared. The same command again comes back to the same agent, and so
does sbx run --name NAME from anywhere; closing the terminal, or the detach keys
(ctrl-p ctrl-q), leave it working.

ARGS go to the agent: after its default flags when the first begins with -, else
in their place.`,
		Example: `  sbx run shell
  sbx run shell ~/src/web ~/src/docs:ro
  sbx run --name web
  sbx run shell -- -c 'make test'`,
		ValidArgsFunction: completeAgent,
		RunE: func(cmd *cobra.Command, args []string) error {
			var agentArgs []string
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args, agentArgs = args[:dash], args[dash:]
			}
			r, err := a.findOrCreate(cmd, &f, args)
			if err != nil {
				return notBegun(err)
			}
			if f.detached {
				return a.runDetached(cmd.Context(), r, agentArgs)
			}
			return a.attach(cmd.Context(), r, agentArgs)
		},
	}
	f.register(a, cmd)
	cmd.Flags().BoolVarP(&f.detached, "detached", "d", false, "start the agent without attaching to it")
	return cmd
}

// notBegun marks an error as sbx's own, before a command could start.
func notBegun(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	return &exitError{code: exitNotBegun, err: err}
}

// findOrCreate resolves run's arguments to a sandbox that runs.
func (a *app) findOrCreate(cmd *cobra.Command, f *createFlags, args []string) (*sandbox.Record, error) {
	if f.name != "" {
		r, err := a.store.Get(f.name)
		if err == nil {
			return a.reuse(cmd, f, r, args)
		}
		if !errors.Is(err, sandbox.ErrNotFound) {
			return nil, err
		}
		if len(args) == 0 {
			_, err := a.record(f.name) // with a suggestion
			return nil, fmt.Errorf("%w; to create it, name the agent: sbx run --name %s shell", err, f.name)
		}
	}
	if len(args) == 0 {
		return nil, usageErrorf("name the agent to run (%s), or a sandbox with --name; usage: %s", strings.Join(kit.Names(), ", "), usageLine(cmd))
	}
	if _, err := kit.Find(args[0]); err != nil {
		return nil, usageErrorf("%w", err)
	}
	paths := args[1:]
	if len(paths) == 0 {
		dir, err := currentFolder()
		if err != nil {
			return nil, err
		}
		paths = []string{dir}
	}
	if f.name == "" {
		// What is shared already needs no second yes.
		known, err := a.workspaces(cmd.Context(), paths, true)
		if err != nil {
			return nil, err
		}
		r, err := a.sameSandbox(args[0], known)
		if err != nil {
			return nil, err
		}
		if r != nil {
			return a.reuse(cmd, f, r, nil)
		}
	}
	workspaces, err := a.workspaces(cmd.Context(), paths, f.force)
	if err != nil {
		return nil, err
	}
	r, err := a.create(cmd.Context(), f, args[0], workspaces)
	if err == nil && !f.quiet {
		fmt.Fprintf(a.stderr, "sbx: created sandbox %s\n", r.Name)
	}
	return r, err
}

// reuse starts a sandbox that exists. What the command line says of it must
// not contradict what it is.
func (a *app) reuse(cmd *cobra.Command, f *createFlags, r *sandbox.Record, args []string) (*sandbox.Record, error) {
	if len(args) > 0 && args[0] != r.Agent {
		return nil, fmt.Errorf("sandbox %q runs the agent %s, not %s; choose another --name", r.Name, r.Agent, args[0])
	}
	if len(args) > 1 {
		workspaces, err := a.workspaces(cmd.Context(), args[1:], true) // only compared
		if err != nil {
			return nil, err
		}
		if !slices.Equal(workspaces, r.Workspaces) {
			return nil, fmt.Errorf("sandbox %q exists with other folders (%s); choose another --name, or leave the PATHs out", r.Name, folders(r))
		}
	}
	if given := f.given(cmd); len(given) > 0 {
		a.warn(fmt.Sprintf("sandbox %s exists; %s of a sandbox can't change: ignored", r.Name, strings.Join(given, ", ")))
	}
	return r, a.manager().Start(cmd.Context(), r.Name)
}

func folders(r *sandbox.Record) string {
	if len(r.Workspaces) == 0 {
		return "none"
	}
	var list []string
	for _, w := range r.Workspaces {
		list = append(list, w.String())
	}
	return strings.Join(list, ", ")
}

// runDetached starts the agent's session and leaves it.
func (a *app) runDetached(ctx context.Context, r *sandbox.Record, args []string) error {
	if err := a.beginSession(ctx, r, args); err != nil {
		return notBegun(err)
	}
	fmt.Fprintf(a.stdout, "%s\n", r.Name)
	return nil
}
