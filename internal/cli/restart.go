package cli

import "github.com/spf13/cobra"

func (a *app) restartCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "restart NAME...",
		Short:             "Stop and start sandboxes",
		Args:              atLeast(1),
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.eachSandbox(names, func(name string) error {
				if err := a.manager().Stop(cmd.Context(), name, false); err != nil {
					return err
				}
				return a.manager().Start(cmd.Context(), name)
			})
		},
	}
}
