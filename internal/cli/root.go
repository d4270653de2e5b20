package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	xterm "golang.org/x/term"

	"sbx/internal/dirs"
	"sbx/internal/progress"
	"sbx/internal/sandbox"
	"sbx/internal/settings"
	"sbx/internal/term"
)

// Exit codes that are sbx's own; exec and run otherwise return the command's.
const (
	exitFailed   = 1
	exitUsage    = 2
	exitNotBegun = 125 // sbx failed before a command in the sandbox could start
	exitKilled   = 137 // the sandbox ended, and the command with it
)

// app is what commands share. Its fields are set before a command runs.
type app struct {
	stdin          *os.File
	stdout, stderr io.Writer
	debug          bool
	signals        *signals

	dirs     dirs.Dirs
	settings *settings.Settings
	store    *sandbox.Store
}

// exitError carries an exit code. Without an err nothing is printed.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usageErrorf is an error for exit code 2.
func usageErrorf(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// Main runs the command line of this process and returns its exit code.
func Main() int {
	ctx, signals := catchSignals()
	defer signals.close()
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, signals: signals}
	err := a.root().ExecuteContext(ctx)
	code, err := exitCode(ctx, err)
	if err != nil {
		a.tell(err.Error())
	}
	return code
}

// exitCode is what sbx ends with for an error of a command, and what is left
// to say of it.
func exitCode(ctx context.Context, err error) (int, error) {
	if err == nil {
		return 0, nil
	}
	code := exitFailed
	var exit *exitError
	if errors.As(err, &exit) {
		code, err = exit.code, exit.err
	}
	var s signaled
	switch {
	case errors.As(err, &s): // its cause
		return s.code(), nil
	case err != nil && errors.As(context.Cause(ctx), &s): // what it led to
		if errors.Is(err, context.Canceled) {
			err = nil
		}
		return s.code(), err
	}
	return code, err
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "sbx",
		Short:         "Run AI coding agents in virtual machines of their own",
		Long:          longRoot,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return cmd.Help()
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.prepare(cmd) },
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.PersistentFlags().BoolVarP(&a.debug, "debug", "D", false, "say more about what goes on")
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageErrorf("%w; see: %s --help", err, cmd.CommandPath())
	})
	root.AddGroup(
		&cobra.Group{ID: "use", Title: "Use a sandbox:"},
		&cobra.Group{ID: "life", Title: "Its life:"},
		&cobra.Group{ID: "host", Title: "This machine:"},
	)
	a.add(root, "use", a.runCommand(), a.execCommand(), a.lsCommand(), a.logsCommand())
	a.add(root, "life", a.createCommand(), a.startCommand(), a.stopCommand(), a.restartCommand(), a.rmCommand(), a.pruneCommand())
	a.add(root, "host", a.setupCommand(), a.diagnoseCommand(), a.settingsCommand(), a.templateCommand(), a.resetCommand(), a.versionCommand())
	root.AddCommand(a.superviseCommand(), a.manCommand())
	root.SetHelpCommand(helpCommand())
	for _, topic := range topics {
		root.AddCommand(topic)
	}
	return root
}

const longRoot = `sbx runs an AI coding agent, or any program you don't trust, in a small virtual
machine of its own: with its own kernel and root by sudo, and nothing of your
computer but the folders that you share.`

func (a *app) add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// unknownCommand is reached with arguments only when no command has that name.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usageErrorf("unknown command %q%s", args[0], suggest(args[0], commandNames(cmd), cmd.CommandPath()+" --help lists all"))
}

func commandNames(cmd *cobra.Command) []string {
	var names []string
	for _, c := range cmd.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

// helpCommand is cobra's, except that an unknown topic is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [TOPIC]",
		Short: "Explain a command or a topic",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || about == nil || len(rest) > 0 {
				return usageErrorf("unknown help topic %q%s", strings.Join(args, " "), suggest(args[len(args)-1], commandNames(cmd.Root()), "sbx help lists all"))
			}
			about.InitDefaultHelpFlag()
			return about.Help()
		},
	}
}

// annotationBare marks commands that work without the user's directories.
const annotationBare = "bare"

// annotationMends marks the commands that can mend a bad settings file.
const annotationMends = "mends-settings"

func mends() map[string]string { return map[string]string{annotationMends: "yes"} }

func bare() map[string]string { return map[string]string{annotationBare: "yes"} }

// prepare finds the user's directories and reads the settings.
func (a *app) prepare(cmd *cobra.Command) (err error) {
	for c := cmd; c != nil; c = c.Parent() {
		if c.Annotations[annotationBare] != "" || c.Name() == "completion" || c.Name() == "help" {
			return nil
		}
	}
	if !cmd.HasParent() {
		return nil
	}
	if a.dirs, err = dirs.Find(); err != nil {
		return err
	}
	if err := a.loadSettings(cmd); err != nil {
		return err
	}
	if a.store, err = sandbox.Open(a.dirs); err != nil {
		return err
	}
	_, err = a.store.Sweep()
	return err
}

// loadSettings reads the settings. Commands that are needed most when something
// is broken do with the defaults then.
func (a *app) loadSettings(cmd *cobra.Command) (err error) {
	a.settings, err = settings.Load(a.settingsPath())
	if err == nil || cmd.Annotations[annotationMends] != "" {
		return nil
	}
	err = fmt.Errorf("%w; mend it with: sbx settings set KEY VALUE, or edit %s", err, a.settingsPath())
	switch cmd.Name() {
	case "exec", "run":
		return notBegun(err)
	case "diagnose", "reset", "ls", "rm", "stop", "logs":
		if cmd.Parent().HasParent() {
			return err // template ls
		}
		a.warn(err.Error())
		a.settings = settings.Defaults()
		return nil
	}
	return err
}

func (a *app) settingsPath() string { return filepath.Join(a.dirs.Config, "settings.yaml") }

// interactive says whether there is somebody to ask.
func (a *app) interactive() bool { return xterm.IsTerminal(int(a.stdin.Fd())) }

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && xterm.IsTerminal(int(f.Fd()))
}

// progress reports on standard error.
func (a *app) progress() (progress.Func, func()) {
	return progress.Terminal(a.stderr, isTerminal(a.stderr))
}

// tell says something on standard error. Whatever the guest, a folder or a file
// had a word in it: no more than text reaches the terminal.
func (a *app) tell(message string) {
	lines := strings.Split(message, "\n")
	for i, line := range lines {
		lines[i] = term.Printable(line)
	}
	fmt.Fprintln(a.stderr, "sbx:", strings.Join(lines, "\n"))
}

func (a *app) warn(message string) { a.tell("warning: " + message) }
