package template

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"sbx/internal/debian"
	"sbx/internal/progress"
)

// DebianName is the name of the default template.
const DebianName = "debian"

const debianSuite = "trixie"

// debianPackages are what the default template has beyond Debian's essential
// packages and apt. Nothing that is only recommended comes with them.
var debianPackages = []string{
	"adduser", "bash", "ca-certificates", "curl", "debian-archive-keyring", "docker-buildx", "docker-cli", "docker-compose",
	"docker.io", "e2fsprogs", "file", "g++", "gcc", "git", "iproute2", "iptables", "jq", "kmod", "less",
	"libc6-dev", "locales", "make", "netbase", "nodejs", "npm", "openssh-client", "passwd", "procps", "python3",
	"python3-venv", "ripgrep", "sudo", "tzdata", "unzip", "vim-tiny", "xz-utils", "zstd",
}

// debianOmit are the paths that dpkg leaves out: manuals, and translations
// into languages that the template has no locale for. Licences stay.
var debianOmit = []string{
	"path-exclude=/usr/share/man/*",
	"path-exclude=/usr/share/info/*",
	"path-exclude=/usr/share/doc/*",
	"path-include=/usr/share/doc/*/copyright",
	"path-exclude=/usr/share/locale/*",
	"path-include=/usr/share/locale/locale.alias",
	"path-include=/usr/share/locale/en*",
}

//go:embed customize.sh
var debianCustomize string

// debianMinSize leaves room to work before a disk has been grown.
const debianMinSize = 2 << 30

// BuildDebian makes the default template, [DebianName], from a Debian mirror
// with mmdebstrap. If it exists, was made by the same recipe and is whole, it
// does nothing. It needs no root, but then uidmap and subordinate ids; what is
// missing it says with the command that helps. It takes minutes; when ctx
// ends, everything it started ends and is removed.
func BuildDebian(ctx context.Context, cache string, m debian.Mirror, p progress.Func) (*Template, error) {
	return build(ctx, cache, recipe{
		name: DebianName, suite: debianSuite, mirror: m, variant: "minbase", minSize: debianMinSize,
		packages: debianPackages, dpkgOptions: debianOmit, customize: debianCustomize,
	}, p)
}

// recipe is how to make a Debian template.
type recipe struct {
	name, suite, variant  string
	mirror                debian.Mirror
	packages, dpkgOptions []string
	customize             string // shell script; $1 is the tree
	minSize               int64
}

// hash changes when the result would, the archive being the same.
func (r recipe) hash() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q %q %q %d", r.suite, r.variant, r.packages, r.dpkgOptions, r.customize, r.minSize)
	return hex.EncodeToString(h.Sum(nil))
}

// publicURI is the mirror's address as the template may know it.
func (r recipe) publicURI() string {
	u, err := url.Parse(r.mirror.URI)
	if err != nil {
		return ""
	}
	u.User = nil
	return strings.TrimRight(u.String(), "/")
}

func build(ctx context.Context, cache string, r recipe, p progress.Func) (*Template, error) {
	t, err := buildLocked(ctx, storeOf(cache), r, p)
	if err != nil {
		return nil, fmt.Errorf("cannot build the template %q: %w", r.name, err)
	}
	return t, nil
}

func buildLocked(ctx context.Context, s store, r recipe, p progress.Func) (*Template, error) {
	p("waiting for another build", 0, 0)
	release, err := s.lock(ctx, "build.lock")
	if err != nil {
		return nil, err
	}
	defer release()
	if t, err := s.existing(r); t != nil || err != nil {
		return t, err
	}
	if err := s.awaitOrphans(ctx); err != nil {
		return nil, err
	}
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	if err := checkHost(ctx); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(s.tmp(), r.name+"-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := r.run(ctx, s, filepath.Join(dir, imageFile), p); err != nil {
		return nil, err
	}
	p("checking the disk image", 0, 0)
	return s.publish(ctx, dir, r.name, record{
		Source: fmt.Sprintf("Debian %s from %s", r.suite, r.publicURI()), Recipe: r.hash(),
	})
}

// existing returns the template if there is nothing to do. A damaged or
// outdated one counts as missing.
func (s store) existing(r recipe) (*Template, error) {
	_, id, err := s.resolve(r.name)
	var corrupt *CorruptError
	if errors.Is(err, ErrNotFound) || errors.As(err, &corrupt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	t, err := s.open(r.name, id)
	switch {
	case errors.As(err, &corrupt), errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case t.recipe != r.hash():
		return nil, nil
	}
	return t, nil
}
