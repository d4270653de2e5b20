package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"sbx/internal/host"
	"sbx/internal/sandbox"
	"sbx/internal/term"
)

func (a *app) diagnoseCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "diagnose",
		Short: "Check this machine, and say how to mend what is wrong",
		Args:  exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks := host.Diagnose(cmd.Context(), host.Options{
				Dirs:     a.dirs,
				Settings: a.settings,
				Log:      a.logger(),
				Extra:    []func(context.Context) []host.Check{a.checkSandboxes},
			})
			if asJSON {
				if err := printJSON(a.stdout, checks); err != nil {
					return err
				}
			} else {
				a.printChecks(checks)
			}
			if host.Worst(checks) == host.Fail {
				return &exitError{code: exitFailed}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) printChecks(checks []host.Check) {
	for _, c := range checks {
		fmt.Fprintf(a.stdout, "%-5s %-16s %s\n", c.Status, c.Name, term.Printable(c.Detail))
		if c.Mend != "" {
			fmt.Fprintf(a.stdout, "%-5s %-16s → %s\n", "", "", term.Printable(c.Mend))
		}
	}
}

// checkSandboxes looks for records that can't be read.
func (a *app) checkSandboxes(context.Context) []host.Check {
	names, err := a.store.Names()
	if err != nil {
		return []host.Check{{Name: "sandboxes", Status: host.Fail, Detail: err.Error(), Mend: "check the owner and mode of that directory"}}
	}
	var checks []host.Check
	running := 0
	for _, name := range names {
		if a.store.Locked(name) {
			running++
		}
		if _, err := a.store.Get(name); err != nil {
			mend := "sbx rm -f " + name
			if errors.Is(err, sandbox.ErrNewer) {
				mend = "upgrade sbx"
			}
			checks = append(checks, host.Check{Name: "sandboxes", Status: host.Warn, Detail: err.Error(), Mend: mend})
		}
	}
	if len(checks) == 0 {
		checks = append(checks, host.Check{Name: "sandboxes", Status: host.OK, Detail: fmt.Sprintf("%d, of which %d run", len(names), running)})
	}
	return checks
}

// logger writes to standard error: what is wrong, and with --debug what goes on.
func (a *app) logger() *slog.Logger {
	level := slog.LevelWarn
	if a.debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
}
