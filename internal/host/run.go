package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"sbx/internal/progress"
)

type reportFunc = progress.Func

// ErrDeclined says that the user said no.
var ErrDeclined = errors.New("nothing was changed")

// runner is what steps run with.
type runner struct {
	ui     UI
	sys    *system
	output io.Writer
	sudo   bool
	// noBackports is set when the mirror turned out not to have them.
	noBackports bool
}

// Run shows the plan, asks, and carries it out, in order. On an error the
// steps before it stay done; the next plan goes on from there.
func (p *Plan) Run(ctx context.Context, ui UI) error {
	for _, n := range p.Notes {
		ui.Say("note: " + n)
	}
	if p.Empty() {
		ui.Say("everything is in place")
		p.sayVirtualization(ctx, ui)
		return nil
	}
	p.show(ui)
	r, err := p.runner(ui)
	if err != nil {
		return err
	}
	yes, err := ui.Confirm("Go ahead?")
	if err != nil {
		return err
	}
	if !yes {
		return ErrDeclined
	}
	if err := r.authenticate(ctx); err != nil {
		return err
	}
	for _, s := range p.Steps {
		if err := s.run(ctx, r); err != nil {
			return fmt.Errorf("setup could not %s: %w; 'sbx setup' goes on from there", s.What, err)
		}
	}
	p.sayVirtualization(ctx, ui)
	return nil
}

// sayVirtualization ends setup with how fast sandboxes will be.
func (p *Plan) sayVirtualization(ctx context.Context, ui UI) {
	if p.virtualization == nil {
		return
	}
	inst, err := p.sys.findQEMU(ctx, p.o.Settings.QEMU())
	if err != nil {
		return // setup installed it, or failed
	}
	ui.Say(p.virtualization(ctx, inst).Detail)
}

func (p *Plan) show(ui UI) {
	ui.Say("setup will:")
	for i, s := range p.Steps {
		ui.Say(fmt.Sprintf("%2d. %s", i+1, s.What))
		for _, c := range s.Commands {
			ui.Say("      " + p.prefix(s) + c)
		}
	}
}

func (p *Plan) prefix(s Step) string {
	if s.Root && p.sys.uid != 0 {
		return "sudo "
	}
	return ""
}

// runner refuses a plan that needs rights that can't be had.
func (p *Plan) runner(ui UI) (*runner, error) {
	r := &runner{ui: ui, sys: p.sys, output: p.o.Output}
	if r.output == nil {
		r.output = io.Discard
	}
	if p.sys.uid == 0 || !p.needsRoot() {
		return r, nil
	}
	if r.sudo = p.sys.has("sudo"); r.sudo {
		return r, nil
	}
	var commands []string
	for _, s := range p.Steps {
		if s.Root {
			commands = append(commands, s.Commands...)
		}
	}
	return nil, fmt.Errorf("this needs root, and there is no sudo; run as root, then 'sbx setup' again as yourself:\n  %s", strings.Join(commands, "\n  "))
}

// authenticate lets sudo ask for its password before anything else is on the
// screen.
func (r *runner) authenticate(ctx context.Context) error {
	if !r.sudo || r.sys.exec(ctx, io.Discard, "sudo", "-n", "true") == nil {
		return nil
	}
	if err := r.sys.exec(ctx, r.output, "sudo", "-v"); err != nil {
		return fmt.Errorf("sudo did not accept you: %w; have an administrator run the commands above", err)
	}
	return nil
}

// root runs a command with the administrator's rights, showing what is done.
func (r *runner) root(ctx context.Context, stage string, argv []string) error {
	if r.sudo {
		argv = append([]string{"sudo"}, argv...)
	}
	return r.long(stage, func(report reportFunc) error {
		report(stage, 0, 0)
		return r.sys.exec(ctx, r.output, argv...)
	})
}

// long does work under a progress line.
func (r *runner) long(stage string, work func(reportFunc) error) error {
	report, done := r.ui.Progress()
	defer done()
	return work(report)
}
