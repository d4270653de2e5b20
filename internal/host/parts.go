package host

import (
	"context"

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
	return parts{}
}
