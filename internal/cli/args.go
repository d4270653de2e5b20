package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"sbx/internal/nearest"
	"sbx/internal/sandbox"
	"sbx/internal/term"
)

// atLeast and exactly check the number of arguments.
func atLeast(n int) cobra.PositionalArgs {
	return named("arguments are missing", n)
}

// named is atLeast that says what is missing.
func named(missing string, n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < n {
			return usageErrorf("%s; usage: %s", missing, usageLine(cmd))
		}
		return nil
	}
}

func exactly(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) > n && n == 0 && cmd.HasSubCommands():
			return unknownCommand(cmd, args)
		case len(args) > n:
			return usageErrorf("one argument too many: %q; usage: %s", args[n], usageLine(cmd))
		}
		return atLeast(n)(cmd, args)
	}
}

// usageLine is cobra's, which adds the word flags where we wrote them.
func usageLine(cmd *cobra.Command) string {
	line := cmd.UseLine()
	if strings.Contains(cmd.Use, "[") {
		line = strings.TrimSuffix(line, " [flags]")
	}
	return line
}

// suggest ends an error about a name that doesn't exist: with the nearest one,
// else with what to do.
func suggest(name string, among []string, otherwise string) string {
	if s := nearest.Suggest(name, among); s != "" {
		return s
	}
	return "; " + otherwise
}

// record reads a sandbox's record; an unknown name suggests the nearest.
func (a *app) record(name string) (*sandbox.Record, error) {
	r, err := a.store.Get(name)
	if !errors.Is(err, sandbox.ErrNotFound) {
		return r, err
	}
	names, listErr := a.store.Names()
	if listErr != nil {
		return nil, listErr
	}
	return nil, fmt.Errorf("no sandbox is named %q%s%w", name, suggest(name, names, "sbx ls lists them"), silent{err})
}

// silent keeps an error findable by errors.Is without printing it again.
type silent struct{ error }

func (silent) Error() string   { return "" }
func (s silent) Unwrap() error { return s.error }

// eachName runs do for every name, in order, reports each failure, and fails
// if any did.
func (a *app) eachName(names []string, do func(name string) error) error {
	failed := false
	for _, name := range names {
		if err := do(name); errors.Is(err, context.Canceled) {
			return err
		} else if err != nil {
			a.tell(err.Error())
			failed = true
		}
	}
	if failed {
		return &exitError{code: exitFailed}
	}
	return nil
}

// eachSandbox runs do for every name of a sandbox, damaged ones included, and
// prints the names for which it succeeded.
func (a *app) eachSandbox(names []string, do func(name string) error) error {
	return a.eachName(names, func(name string) error {
		if _, err := a.record(name); err != nil && !errors.Is(err, sandbox.ErrDamaged) {
			return err
		}
		if err := do(name); err != nil {
			return err
		}
		fmt.Fprintln(a.stdout, name)
		return nil
	})
}

// confirm asks before something is destroyed. Without a terminal it refuses.
func (a *app) confirm(ctx context.Context, question string) error {
	if !a.interactive() {
		return fmt.Errorf("nobody can be asked without a terminal: %s; use --force", strings.TrimRight(question, "?"))
	}
	yes, err := a.ask(ctx, question, false)
	if err == nil && !yes {
		err = errors.New("not confirmed; nothing was changed")
	}
	return err
}

// ask waits for yes or no, or for the end of ctx; otherwise is the answer of
// one who only presses Enter. No input is a no.
func (a *app) ask(ctx context.Context, question string, otherwise bool) (bool, error) {
	hint := "[y/N]"
	if otherwise {
		hint = "[Y/n]"
	}
	fmt.Fprintf(a.stderr, "%s %s ", term.Printable(question), hint)
	answers := make(chan string, 1)
	go func() { // can't be waited for: nothing interrupts a Read
		line, err := bufio.NewReader(a.stdin).ReadString('\n')
		if err != nil && line == "" {
			line = "no"
		}
		answers <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return false, context.Cause(ctx)
	case answer := <-answers:
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
			return true, nil
		case "":
			return otherwise, nil
		}
		return false, nil
	}
}

// environment resolves -e and --env-file: K=V as it is, K alone from this
// process's environment, where it may be missing.
func environment(files, vars []string) ([]string, error) {
	var env []string
	for _, file := range files {
		lines, err := envFile(file)
		if err != nil {
			return nil, err
		}
		env = append(env, lines...)
	}
	env = append(env, vars...)
	resolved := env[:0]
	for _, kv := range env {
		name, _, given := strings.Cut(kv, "=")
		if name == "" || strings.ContainsAny(name, " \t\x00") {
			return nil, usageErrorf("environment variable %q: a name without spaces must come before the =", kv)
		}
		if !given {
			value, ok := os.LookupEnv(name)
			if !ok {
				continue
			}
			kv = name + "=" + value
		}
		resolved = append(resolved, kv)
	}
	return resolved, nil
}

// envFile reads K=V lines; empty ones and those that start with # don't count.
func envFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("environment file: %w", err)
	}
	defer f.Close()
	var env []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimLeft(lines.Text(), " \t")
		if line != "" && line[0] != '#' {
			env = append(env, strings.TrimRight(line, "\r"))
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("environment file %s: %w", path, err)
	}
	return env, nil
}

// completeNames completes names of sandboxes.
func (a *app) completeNames(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	if a.prepare(cmd) != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	names, err := a.store.Names()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeOneName completes the first argument only.
func (a *app) completeOneName(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return a.completeNames(cmd, args, word)
}
