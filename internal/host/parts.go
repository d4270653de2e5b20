package host

import (
	"context"
	"errors"
	"fmt"

	"sbx/internal/debian"
	"sbx/internal/kernel"
	"sbx/internal/progress"
	"sbx/internal/template"
	"sbx/internal/vmm/qemu"
)

// parts are the things that sbx itself prepares, behind functions so that the
// plan can be tested without a network.
type parts struct {
	artifacts []artifact
	// virtualization says whether KVM works with this QEMU, which may be nil.
	virtualization func(context.Context, *qemu.Installation) Check
}

// artifact is something that is prepared once and then kept.
type artifact struct {
	name string // of its check
	what string // what preparing it is, in words that begin with a verb
	// ready says quickly why it isn't prepared; verify looks at every byte and
	// describes it.
	ready   func(context.Context) error
	verify  func(context.Context) (string, error)
	prepare func(context.Context, reportFunc) error
}

func realParts(o Options) parts {
	return parts{artifacts: []artifact{kernelArtifact(o), templateArtifact(o)}, virtualization: o.virtualization}
}

// mirror is the user's choice, else the machine's own.
func (o Options) mirror(ctx context.Context) (debian.Mirror, error) {
	if uri := o.Settings.Mirror(); uri != "" {
		return debian.Mirror{URI: uri}, nil
	}
	return debian.HostMirror(ctx)
}

func kernelArtifact(o Options) artifact {
	a := artifact{
		name: "kernel",
		what: "prepare the guest's kernel (Debian's, from your machine's mirror)",
		ready: func(context.Context) error {
			_, err := kernel.Open(o.Dirs.Cache)
			return err
		},
		verify: func(ctx context.Context) (string, error) {
			k, err := kernel.Open(o.Dirs.Cache)
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%s (%s)", k.Release, k.Source), k.Verify(ctx)
		},
		prepare: func(ctx context.Context, report reportFunc) error {
			m, err := o.mirror(ctx)
			if err != nil {
				return err
			}
			_, err = kernel.Fetch(ctx, o.Dirs.Cache, m, report)
			return err
		},
	}
	if o.Kernel != "" {
		a.what = "make " + o.Kernel + " the guest's kernel"
		a.ready = func(context.Context) error { return errors.New("a kernel of the user's own is to be taken over") }
		a.prepare = func(ctx context.Context, report reportFunc) error {
			report(a.what, 0, 0)
			k, err := kernel.FromFile(ctx, o.Dirs.Cache, o.Kernel, o.KernelModules)
			if err != nil {
				return err
			}
			return kernel.SetDefault(ctx, o.Dirs.Cache, k.ID)
		}
	}
	return a
}

func templateArtifact(o Options) artifact {
	return artifact{
		name: "template",
		what: "make the default template (Debian with development tools, from your machine's mirror; takes minutes)",
		ready: func(context.Context) error {
			_, err := template.Open(o.Dirs.Cache, template.DebianName)
			return err
		},
		verify: func(ctx context.Context) (string, error) {
			t, err := template.Open(o.Dirs.Cache, template.DebianName)
			if errors.Is(err, template.ErrNotFound) {
				return "", errors.New("the default template is not prepared")
			}
			if err != nil {
				return "", err
			}
			return fmt.Sprintf("%s, %s (%s)", t.Name, progress.Bytes(t.Size), t.Source), t.Verify(ctx)
		},
		prepare: func(ctx context.Context, report reportFunc) error {
			m, err := o.mirror(ctx)
			if err != nil {
				return err
			}
			_, err = template.BuildDebian(ctx, o.Dirs.Cache, m, report)
			return err
		},
	}
}

// virtualization probes KVM.
func (o Options) virtualization(ctx context.Context, inst *qemu.Installation) Check {
	c := Check{Name: "virtualization"}
	k, err := kernel.Open(o.Dirs.Cache)
	if err != nil || inst == nil {
		c.Status, c.Detail, c.Mend = Warn, "can't be tried before QEMU and the kernel are there", runSetup
		return c
	}
	initrd, err := k.Initramfs()
	if err != nil {
		c.Status, c.Detail, c.Mend = Fail, err.Error(), runSetup
		return c
	}
	// Asked on purpose, so tried anew: the host may have been mended.
	if err := qemu.ForgetVerdict(o.Dirs.Cache); err != nil {
		o.log().Debug("cannot forget the last verdict on KVM", "error", err)
	}
	verdict := qemu.ProbeCached(ctx, o.Dirs.Cache, inst, k.Vmlinux(), initrd)
	switch {
	case verdict.Usable:
		c.Status, c.Detail = OK, "KVM works"
	case o.Settings.Accel() == "kvm":
		c.Status, c.Detail = Fail, "vm.accel is kvm, but KVM can't be used: "+verdict.Reason
		c.Mend = "mend KVM, or run: sbx settings set vm.accel auto"
	default:
		c.Status, c.Detail = Warn, "no KVM, so sandboxes run emulated, several times slower: "+verdict.Reason
		c.Mend = "use a machine, or a virtual machine with nested virtualization, whose /dev/kvm works and is open to you (group kvm)"
	}
	if o.Settings.Accel() == "tcg" {
		c.Status, c.Mend = Warn, "to use KVM where it works, run: sbx settings unset vm.accel"
		c.Detail = "vm.accel is tcg, so sandboxes run emulated, several times slower"
	}
	return c
}
