package cli

import (
	"context"

	"github.com/spf13/cobra"

	"sbx/internal/supervisor"
)

// superviseCommand is what a sandbox's supervisor process runs.
func (a *app) superviseCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "supervise NAME",
		Hidden: true,
		Args:   exactly(1),
		RunE: func(_ *cobra.Command, args []string) error {
			// Signals are the supervisor's own business.
			return supervisor.Run(context.Background(), supervisor.Config{
				Dirs:    a.dirs,
				Store:   a.store,
				Name:    args[0],
				Accel:   a.settings.Accel(),
				Monitor: a.settings.QEMU(),
				Debug:   a.debug,
			})
		},
	}
}
