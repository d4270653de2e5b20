package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"sbx/internal/debian"
	"sbx/internal/vmm/qemu"
)

// Debian 12 has QEMU 7.2, which works, and 10.0 in its backports, which does
// all that sbx can use.
const (
	backportsSuite  = "bookworm-backports"
	backportsSource = "/etc/apt/sources.list.d/sbx-backports.sources"
	// refusedMarker, in the cache, holds the URI of a mirror without backports,
	// so that setup doesn't try it each time.
	refusedMarker = "no-backports"
)

// qemuPlan is what is to be done about QEMU.
type qemuPlan struct {
	packages  []string           // none: nothing is to be done
	release   string             // "" or backportsSuite
	present   *qemu.Installation // nil: there is none that works
	backports *backports
}

// backports is the source to take QEMU from.
type backports struct {
	mirror  debian.Mirror
	present bool // apt has it already
	marker  string
	sys     *system
}

// qemu decides where QEMU comes from. The user's own (vm.qemu) is left alone.
func (p *Plan) qemu(ctx context.Context) (qemuPlan, error) {
	own := p.o.Settings.QEMU()
	have, err := p.sys.findQEMU(ctx, own)
	missing := errors.Is(err, qemu.ErrNotInstalled) || errors.Is(err, qemu.ErrTooOld)
	switch {
	case own != "" && err != nil:
		return qemuPlan{}, fmt.Errorf("vm.qemu: %w; or 'sbx settings unset vm.qemu'", err)
	case err != nil && !missing:
		return qemuPlan{}, err
	case own != "" || err == nil && !have.Version.Before(preferredQEMU):
		return qemuPlan{}, nil
	}
	q := qemuPlan{packages: p.sys.qemuPackages(), present: have, backports: p.findBackports(ctx)}
	if q.backports != nil {
		q.release = backportsSuite
		return q, nil
	}
	if err == nil {
		return qemuPlan{}, nil
	}
	return q, nil
}

// findBackports says where to get backports from, or nil where that isn't
// Debian 12, the user doesn't want it, or the mirror was found to have none.
func (p *Plan) findBackports(ctx context.Context) *backports {
	if r := p.sys.release(); r.ID != "debian" || r.Codename != "bookworm" || !p.o.Settings.Backports() {
		return nil
	}
	if p.sys.aptKnows(ctx, backportsSuite) {
		return &backports{present: true, sys: p.sys}
	}
	mirror, err := p.sys.mirror(ctx)
	if err != nil {
		p.Notes = append(p.Notes, "QEMU 10.0 from Debian's backports would be better, but: "+err.Error())
		return nil
	}
	marker := filepath.Join(p.o.Dirs.Cache, refusedMarker)
	if refused, _ := os.ReadFile(marker); string(refused) == mirror.URI {
		return nil
	}
	return &backports{mirror: mirror, marker: marker, sys: p.sys}
}

// aptKnows says whether apt has a source for suite.
func (s *system) aptKnows(ctx context.Context, suite string) bool {
	out, err := s.run(ctx, "apt-get", "indextargets", "--format", "$(RELEASE)")
	if err != nil {
		return false
	}
	for _, word := range strings.Fields(string(out)) {
		if word == suite {
			return true
		}
	}
	return false
}

// text is the source, in the form of sources.list(5), deb822 style.
func (b *backports) text() string {
	return fmt.Sprintf("# Made by sbx setup, for a newer QEMU. Apt takes nothing else from it unasked.\n"+
		"Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n", b.mirror.URI, backportsSuite, b.mirror.Keyring)
}

// errNoBackports says that the mirror doesn't carry the suite.
var errNoBackports = errors.New("the mirror has no bookworm-backports")

// step adds the source and reads its list; a mirror that doesn't have it is
// remembered and the source is taken away again.
func (b *backports) step(present *qemu.Installation) Step {
	what := "add Debian's backports as a source of packages, for QEMU 10.0"
	if present != nil {
		what += fmt.Sprintf(" (your %s works too: 'sbx settings set setup.backports false' keeps it)", present.Version)
	}
	return Step{What: what, Root: true,
		Commands: []string{
			"write " + backportsSource + ": " + b.mirror.URI + " " + backportsSuite + " main",
			strings.Join(aptGet("update"), " "),
		},
		run: b.add}
}

func (b *backports) add(ctx context.Context, r *runner) error {
	if err := b.write(ctx, r); err != nil {
		return err
	}
	err := r.root(ctx, "refreshing the package lists", aptGet("update"))
	if ctx.Err() != nil {
		return err
	}
	// Other sources of the user's may fail: what counts is that this one is
	// there now, and apt says so only when it has the list.
	if b.sys.aptHas(ctx, backportsSuite) {
		return nil
	}
	if rmErr := r.root(ctx, "removing the source again", []string{"rm", "-f", b.sys.path(backportsSource)}); rmErr != nil {
		return rmErr
	}
	if markErr := mark(b.marker, b.mirror.URI); markErr != nil {
		return markErr
	}
	r.noBackports = true
	reason := errNoBackports
	if err != nil {
		reason = fmt.Errorf("%w (%w)", errNoBackports, err)
	}
	r.ui.Say("note: " + reason.Error() + "; QEMU stays the distribution's")
	return nil
}

func (b *backports) write(ctx context.Context, r *runner) error {
	f, err := os.CreateTemp("", "sbx-*.sources")
	if err != nil {
		return fmt.Errorf("cannot write the source for backports: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(b.text())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot write the source for backports: %w", err)
	}
	return r.root(ctx, "adding the source", []string{"install", "--mode", "0644", f.Name(), b.sys.path(backportsSource)})
}

func mark(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return renameio.WriteFile(path, []byte(text), 0o600)
}

// aptHas says whether apt has read the package list of suite.
func (s *system) aptHas(ctx context.Context, suite string) bool {
	out, err := s.run(ctx, "apt-cache", "policy")
	return err == nil && strings.Contains(string(out), "n="+suite+",")
}

// step installs QEMU. When the backports turned out not to be there, it comes
// from the distribution, unless the present one works.
func (q qemuPlan) step() Step {
	step := install("install QEMU", q.release, q.packages)
	fallback := install("install QEMU", "", q.packages)
	run := step.run
	step.run = func(ctx context.Context, r *runner) error {
		if !r.noBackports {
			return run(ctx, r)
		}
		if q.present != nil {
			return nil
		}
		return fallback.run(ctx, r)
	}
	return step
}
