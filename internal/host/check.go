package host

import "context"

// Status is the verdict of a check.
type Status string

const (
	OK   Status = "ok"
	Warn Status = "warn" // sandboxes run, with something less
	Fail Status = "fail" // sandboxes don't run, or not for long
)

// Check is the outcome of one. The JSON names are stable.
type Check struct {
	Name   string `json:"name"`
	Status Status `json:"status"`
	// Detail is what was found, Mend what to do about it; empty when nothing is.
	Detail string `json:"detail"`
	Mend   string `json:"mend,omitempty"`
}

// Worst is the gravest status among checks.
func Worst(checks []Check) Status {
	worst := OK
	for _, c := range checks {
		if c.Status == Fail || c.Status == Warn && worst == OK {
			worst = c.Status
		}
	}
	return worst
}

// Diagnose checks everything. It changes nothing, except that it remembers
// whether KVM works.
func Diagnose(ctx context.Context, o Options) []Check {
	return diagnose(ctx, o, thisSystem(), realParts(o))
}

func diagnose(ctx context.Context, o Options, sys *system, parts parts) []Check {
	d := &diagnosis{o: o, sys: sys}
	d.host()
	d.qemu(ctx)
	for _, a := range parts.artifacts {
		d.artifact(ctx, a)
	}
	if parts.virtualization != nil {
		d.add(parts.virtualization(ctx, d.installation))
	}
	d.tools()
	d.userNamespaces(ctx)
	d.directories()
	d.diskSpace()
	d.socketPath()
	for _, extra := range o.Extra {
		d.checks = append(d.checks, extra(ctx)...)
	}
	return d.checks
}
