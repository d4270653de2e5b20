package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sbx/internal/sandbox"
)

func (a *app) pruneCommand() *cobra.Command {
	var (
		filters       []string
		dryRun, force bool
	)
	cmd := &cobra.Command{
		Use:   "prune [--filter until=168h] [--dry-run] [-f]",
		Short: "Remove all stopped sandboxes",
		Long: `Remove all stopped sandboxes; with --filter until=168h only those that were not
used for so long. Shared folders stay.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			until, err := parseUntil(filters)
			if err != nil {
				return err
			}
			names, err := a.prunable(until)
			if err != nil {
				return err
			}
			if len(names) == 0 {
				a.tell("nothing to do: no stopped sandbox to remove")
				return nil
			}
			if dryRun {
				for _, name := range names {
					fmt.Fprintln(a.stdout, name)
				}
				return nil
			}
			if !force {
				if err := a.confirm(cmd.Context(), fmt.Sprintf("Remove %s with everything in them? Shared folders stay.", strings.Join(names, ", "))); err != nil {
					return err
				}
			}
			return a.eachName(names, func(name string) error {
				switch err := a.manager().RemoveStopped(cmd.Context(), name); {
				case errors.Is(err, sandbox.ErrLocked), errors.Is(err, sandbox.ErrNotFound):
					return nil // started, or removed, while we asked
				case err != nil:
					return err
				}
				fmt.Fprintln(a.stdout, name)
				return nil
			})
		},
	}
	cmd.Flags().StringArrayVar(&filters, "filter", nil, "until=DURATION: not used for so long")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only print what would be removed")
	cmd.Flags().BoolVarP(&force, "force", "f", false, "don't ask")
	return cmd
}

func parseUntil(filters []string) (time.Duration, error) {
	var until time.Duration
	for _, f := range filters {
		key, value, _ := strings.Cut(f, "=")
		if key != "until" {
			return 0, usageErrorf("--filter %s: only until=DURATION is known, for example until=168h", f)
		}
		d, err := time.ParseDuration(value)
		if err != nil || d < 0 {
			return 0, usageErrorf("--filter %s: write a duration such as 90m or 168h", f)
		}
		until = d
	}
	return until, nil
}

// prunable lists the stopped sandboxes that were not used for at least until.
func (a *app) prunable(until time.Duration) ([]string, error) {
	names, err := a.store.Names()
	if err != nil {
		return nil, err
	}
	var old []string
	for _, name := range names {
		if _, err := a.store.Get(name); err != nil {
			continue // damaged, or a newer sbx's: only rm removes it
		}
		if !a.store.Locked(name) && time.Since(lastUsed(a.store.Dir(name))) >= until {
			old = append(old, name)
		}
	}
	return old, nil
}

// lastUsed is when the supervisor wrote its last line, which says that it ended.
func lastUsed(dir string) time.Time {
	for _, file := range []string{"supervisor.log", "sandbox.json", "."} {
		if st, err := os.Stat(filepath.Join(dir, file)); err == nil {
			return st.ModTime()
		}
	}
	return time.Time{}
}
