package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"sbx/internal/host"
	"sbx/internal/progress"
)

func (a *app) setupCommand() *cobra.Command {
	var yes bool
	o := host.Options{}
	cmd := &cobra.Command{
		Use:   "setup [--yes]",
		Short: "Install and prepare what sandboxes need on this machine",
		Long: `Install and prepare what sandboxes need on this machine: QEMU and mmdebstrap as
packages, a kernel, and the default template. It says first what it will do; what
is there already is left alone, so it can be repeated at any time.`,
		Args: exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Dirs, o.Settings, o.Log = a.dirs, a.settings, a.logger()
			if o.Kernel != "" {
				path, err := filepath.Abs(o.Kernel)
				if err != nil {
					return err
				}
				o.Kernel = path
			}
			if a.debug {
				o.Output = a.stderr
			}
			return host.Setup(cmd.Context(), o, &setupUI{ctx: cmd.Context(), app: a, yes: yes})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "don't ask")
	cmd.Flags().StringVar(&o.Kernel, "kernel", "", "kernel file (vmlinux or bzImage) to use from now on instead of Debian's")
	cmd.Flags().StringVar(&o.KernelModules, "kernel-modules", "", "folder with that kernel's modules")
	return cmd
}

// setupUI talks with the user on behalf of host.Setup.
type setupUI struct {
	ctx context.Context // of the command
	app *app
	yes bool
}

func (u *setupUI) Say(line string) { fmt.Fprintln(u.app.stdout, line) }

func (u *setupUI) Confirm(question string) (bool, error) {
	if u.yes {
		return true, nil
	}
	if !u.app.interactive() {
		return false, fmt.Errorf("nobody can be asked without a terminal; run: sbx setup --yes")
	}
	return u.app.ask(u.ctx, question, true)
}

func (u *setupUI) Progress() (progress.Func, func()) { return u.app.progress() }
