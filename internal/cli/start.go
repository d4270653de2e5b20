package cli

import (
	"github.com/spf13/cobra"

	"sbx/internal/lifecycle"
)

// manager is the one way to change sandboxes.
func (a *app) manager() *lifecycle.Manager {
	return &lifecycle.Manager{Dirs: a.dirs, Store: a.store, Monitor: a.settings.QEMU(), Warn: a.warn}
}

func (a *app) startCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "start NAME...",
		Short:             "Start stopped sandboxes",
		Args:              atLeast(1),
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.eachSandbox(names, func(name string) error {
				return a.manager().Start(cmd.Context(), name)
			})
		},
	}
}
