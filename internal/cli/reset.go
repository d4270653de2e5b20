package cli

import (
	"errors"
	"os"
	"strconv"

	"github.com/spf13/cobra"
)

func (a *app) resetCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "reset [-f]",
		Short: "Stop and delete everything that sbx keeps",
		Long: `Stop and delete everything that sbx keeps: all sandboxes, templates, kernels and
settings. Shared folders stay, and so do packages that sbx setup installed.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := a.store.Names()
			if err != nil {
				return err
			}
			if !force {
				if err := a.confirm(cmd.Context(), "Delete all sandboxes ("+strconv.Itoa(len(names))+"), templates, kernels and settings?"); err != nil {
					return err
				}
			}
			for _, name := range names {
				if err := a.manager().Remove(cmd.Context(), name); err != nil {
					return err
				}
			}
			return errors.Join(
				os.RemoveAll(a.dirs.Runtime),
				os.RemoveAll(a.dirs.State),
				os.RemoveAll(a.dirs.Cache),
				os.RemoveAll(a.dirs.Config),
			)
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "don't ask")
	return cmd
}
