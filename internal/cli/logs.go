package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"sbx/internal/sandbox"
	"sbx/internal/term"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, supervisor bool
	cmd := &cobra.Command{
		Use:               "logs NAME",
		Short:             "Print what a sandbox's console said",
		Args:              exactly(1),
		ValidArgsFunction: a.completeOneName,
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := a.record(args[0]); err != nil && !errors.Is(err, sandbox.ErrDamaged) {
				return err
			}
			file := "console.log"
			if supervisor {
				file = "supervisor.log"
			}
			path := filepath.Join(a.store.Dir(args[0]), file)
			out := term.PlainText(a.stdout)
			if err := copyFile(out, path+".1"); err != nil {
				return err
			}
			if !follow {
				return copyFile(out, path)
			}
			return followFile(cmd.Context(), out, path)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on printing what comes")
	cmd.Flags().BoolVar(&supervisor, "supervisor", false, "the log of the sandbox's supervisor on this machine instead")
	return cmd
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// followFile prints a log as it grows, through its rotation, until ctx ends or
// the log is removed with its sandbox.
func followFile(ctx context.Context, w io.Writer, path string) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var f *os.File
	defer func() { f.Close() }()
	for {
		if f == nil {
			f, _ = os.Open(path)
		}
		if f != nil {
			if _, err := io.Copy(w, f); err != nil {
				return err
			}
			if moved(f, path) {
				f.Close()
				f = nil
			}
		}
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("the sandbox was removed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func moved(f *os.File, path string) bool {
	have, err := f.Stat()
	if err != nil {
		return true
	}
	now, err := os.Stat(path)
	return err != nil || !os.SameFile(have, now)
}
