package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sbx/internal/debian"
	"sbx/internal/vmm/qemu"
)

// Plan is what setup will do.
type Plan struct {
	Steps []Step
	// Notes are facts that the user should know of; they need no action.
	Notes []string

	o              Options
	sys            *system
	virtualization func(context.Context, *qemu.Installation) Check
}

// Step is one thing that setup does.
type Step struct {
	// What is done, in a few words that begin with a verb.
	What string
	// Commands are what runs, exactly; none for work that sbx does itself.
	Commands []string
	// Root says that it needs the administrator's rights.
	Root bool

	run func(ctx context.Context, r *runner) error
}

// Empty says that nothing is missing.
func (p *Plan) Empty() bool { return len(p.Steps) == 0 }

// needsRoot says whether any step needs the administrator's rights.
func (p *Plan) needsRoot() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Root })
}

// NewPlan finds out what is missing. It changes nothing.
func NewPlan(ctx context.Context, o Options) (*Plan, error) {
	return newPlan(ctx, o, thisSystem(), realParts(o))
}

func newPlan(ctx context.Context, o Options, sys *system, parts parts) (*Plan, error) {
	if sys.os != "linux" {
		return nil, fmt.Errorf("sandboxes need a Linux host; this is %s", sys.os)
	}
	p := &Plan{o: o, sys: sys, virtualization: parts.virtualization}
	if err := p.programs(ctx); err != nil {
		return nil, err
	}
	if err := p.subordinateIDs(); err != nil {
		return nil, err
	}
	return p, p.artifacts(ctx, parts)
}

// need is a program that must be there, and the Debian package that has it.
type need struct {
	pkg  string
	here bool
}

// programs plans the packages that are missing. QEMU's is a matter of version
// too: see backports.go.
func (p *Plan) programs(ctx context.Context) error {
	q, err := p.qemu(ctx)
	if err != nil {
		return err
	}
	var missing []string
	for _, n := range p.sys.needs() {
		if !n.here && !slices.Contains(q.packages, n.pkg) {
			missing = append(missing, n.pkg)
		}
	}
	if len(missing) == 0 && len(q.packages) == 0 {
		return nil
	}
	if !p.sys.has("apt-get") {
		return fmt.Errorf("these programs are missing: %s; setup can install them only on Debian and Ubuntu: install them (the names are Debian's packages) and run 'sbx setup' again",
			strings.Join(append(q.packages, missing...), ", "))
	}
	if q.backports != nil && !q.backports.present {
		p.Steps = append(p.Steps, q.backports.step(q.present))
	} else {
		p.Steps = append(p.Steps, p.refresh())
	}
	if len(q.packages) > 0 {
		p.Steps = append(p.Steps, q.step())
	}
	if len(missing) > 0 {
		p.Steps = append(p.Steps, install("install what setup and sandboxes use", "", missing))
	}
	return nil
}

// needs are the programs besides QEMU itself.
func (s *system) needs() []need {
	list := []need{
		{"qemu-utils", s.has("qemu-img")},
		{"mmdebstrap", s.has("mmdebstrap")},
		{"debian-archive-keyring", s.exists("/usr/share/keyrings/debian-archive-keyring.gpg") || s.exists("/usr/share/keyrings/debian-archive-keyring.pgp")},
		{"e2fsprogs", s.has("e2fsck")},
	}
	if s.uid != 0 {
		list = append(list, need{"uidmap", s.has("newuidmap")})
	}
	return list
}

// subordinateIDs plans a range of user IDs for an ordinary user who has none:
// without root, the template is made in a user namespace that needs it.
func (p *Plan) subordinateIDs() error {
	if p.sys.uid == 0 || p.sys.hasSubordinateIDs() {
		return nil
	}
	if p.sys.user == "" {
		return errors.New("cannot tell your user name, which needs subordinate user IDs in /etc/subuid")
	}
	argv := []string{"usermod", "--add-subuids", "100000-165535", "--add-subgids", "100000-165535", p.sys.user}
	p.Steps = append(p.Steps, command("give you subordinate user IDs, for making the template without root", argv))
	return nil
}

// artifacts plans what sbx prepares itself, out of a Debian mirror. A machine
// that knows none can't go on; keys that are missing are among the packages.
func (p *Plan) artifacts(ctx context.Context, parts parts) error {
	for _, a := range parts.artifacts {
		if err := a.ready(ctx); err != nil {
			p.o.log().Debug("not prepared", "what", a.name, "reason", err)
			if _, err := p.sys.mirror(ctx); p.o.Settings.Mirror() == "" && errors.Is(err, debian.ErrNoMirror) {
				return err
			}
			p.Steps = append(p.Steps, Step{What: a.what, run: func(ctx context.Context, r *runner) error {
				return r.long(a.what, func(report reportFunc) error { return a.prepare(ctx, report) })
			}})
		}
	}
	return nil
}

// refresh fetches the package lists: a fresh machine has none. A source of the
// user's that fails must not stop setup; what matters is whether the packages
// can be installed then.
func (p *Plan) refresh() Step {
	argv := aptGet("update")
	return Step{What: "refresh the package lists", Commands: []string{strings.Join(argv, " ")}, Root: true,
		run: func(ctx context.Context, r *runner) error {
			err := r.root(ctx, "refreshing the package lists", argv)
			if err != nil && ctx.Err() == nil {
				r.ui.Say("note: " + err.Error())
				return nil
			}
			return err
		}}
}

// install plans an apt-get of packages; release, if not empty, is preferred.
func install(what, release string, packages []string) Step {
	args := []string{"install", "--yes", "--no-install-recommends"}
	if release != "" {
		args = append(args, "--target-release", release)
	}
	return command(what+" ("+strings.Join(packages, ", ")+")", aptGet(append(args, packages...)...))
}

// command is a step that is just one command as root.
func command(what string, argv []string) Step {
	return Step{What: what, Commands: []string{strings.Join(argv, " ")}, Root: true,
		run: func(ctx context.Context, r *runner) error { return r.root(ctx, what, argv) }}
}

// aptGet waits for another package manager to finish, as happens on a machine
// that has just been started, and never asks.
func aptGet(args ...string) []string {
	return append([]string{"env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--option", "DPkg::Lock::Timeout=600"}, args...)
}
