// Package host knows what sbx needs of the computer that it runs on.
//
// [Diagnose] checks everything and says how to mend what is wrong. [NewPlan]
// finds out what is missing and [Plan.Run] gets it: programs from the
// distribution, the guest's kernel, the default template. A plan is complete
// before anything is changed, so that it can be shown first; one that was
// interrupted is simply made anew, and contains what is still missing.
//
// Nothing here prints or asks: [UI] is the caller's.
package host

import (
	"context"
	"io"
	"log/slog"

	"sbx/internal/dirs"
	"sbx/internal/progress"
	"sbx/internal/settings"
)

// Options say what to look at. Dirs and Settings are required.
type Options struct {
	Dirs     dirs.Dirs
	Settings *settings.Settings
	// Kernel is a kernel of the user's own that setup makes the default, and
	// KernelModules the directory of its modules; empty: Debian's.
	Kernel, KernelModules string
	// Extra are checks of the caller's, which follow those of this package.
	Extra []func(context.Context) []Check
	Log   *slog.Logger
	// Output receives what the programs print that setup runs; nil discards.
	Output io.Writer
}

func (o Options) log() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// UI is how setup talks with the user.
type UI interface {
	// Say shows one line.
	Say(line string)
	// Confirm asks a question that is answered with yes or no. It returns an
	// error when there is nobody to ask.
	Confirm(question string) (bool, error)
	// Progress begins a report on long work and returns a function that ends
	// it. Reports don't overlap.
	Progress() (progress.Func, func())
}

// Setup plans and runs what is missing, after the user agreed. With nothing to
// do it says so and asks nothing.
func Setup(ctx context.Context, o Options, ui UI) error {
	plan, err := NewPlan(ctx, o)
	if err != nil {
		return err
	}
	return plan.Run(ctx, ui)
}
