package cli

import "github.com/spf13/cobra"

// topics are pages of sbx help TOPIC and of the manual; they can't be run.
var topics = []*cobra.Command{
	{
		Use:   "files",
		Short: "Where sbx keeps its files",
		Long: `  $XDG_CONFIG_HOME/sbx/settings.yaml    settings
  $XDG_STATE_HOME/sbx/sandboxes/NAME/   sandbox.json, disk.qcow2, console.log, supervisor.log
  $XDG_CACHE_HOME/sbx/                  kernels/, templates/
  $XDG_RUNTIME_DIR/sbx/NAME/            sockets of a running sandbox

The defaults are ~/.config, ~/.local/state, ~/.cache and /tmp/sbx-UID. Removing
a sandbox leaves nothing behind; sbx reset removes all of these.`,
	},
	{
		Use:   "workspaces",
		Short: "What a sandbox sees of this computer",
		Long: `A workspace is a folder that a sandbox sees at the same path, live in both
directions. PATH:ro can't be written from inside; the computer enforces that, not
the guest. Symbolic links never lead out of a workspace. In the sandbox all files
belong to the user agent; what is created inside belongs to you. Nothing else of
this computer is visible. Programs that you run later on files which an agent
wrote (build scripts, git hooks) run with your rights: look before you run them.`,
	},
	{
		Use:   "exit-codes",
		Short: "What exit codes mean",
		Long: `    0  success
    1  the operation failed
    2  wrong usage
  129  the terminal went away; 130 interrupted by ctrl-c; 143 by SIGTERM
  125  exec, run: sbx failed before the command could start
  126  exec, run: the command can't be executed
  127  exec, run: there is no such command
  137  exec, run: the sandbox was stopped under the command, or SIGKILL ended it
128+N  exec, run: signal N ended the command
       exec, run: else the command's own exit code`,
	},
}
