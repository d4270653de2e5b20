package cli

import "github.com/spf13/cobra"

func (a *app) stopCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "stop NAME...",
		Short: "Stop sandboxes; their disks stay",
		Long: `Stop sandboxes: processes get SIGTERM and five seconds, file systems are
flushed, the machine powers off. Disk, packages and configuration stay.`,
		Args:              atLeast(1),
		ValidArgsFunction: a.completeNames,
		RunE: func(cmd *cobra.Command, names []string) error {
			return a.eachSandbox(names, func(name string) error {
				return a.manager().Stop(cmd.Context(), name, force)
			})
		},
	}
	cmd.Flags().BoolVarP(&force, "force", "f", false, "pull the plug: nothing is flushed, nobody is asked")
	return cmd
}
