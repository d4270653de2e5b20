package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"sbx/internal/sandbox"
)

func (a *app) rmCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:               "rm [-f] NAME...",
		Short:             "Remove sandboxes and all in them; shared folders stay",
		Args:              atLeast(1),
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			if !force {
				for _, name := range names {
					if _, err := a.record(name); err != nil && !errors.Is(err, sandbox.ErrDamaged) {
						return err
					}
				}
				if err := a.confirm(cmd.Context(), fmt.Sprintf("Remove %s with everything in it? Shared folders stay.", strings.Join(names, ", "))); err != nil {
					return err
				}
			}
			return a.eachSandbox(names, func(name string) error {
				return a.manager().Remove(cmd.Context(), name)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "don't ask")
	return cmd
}
