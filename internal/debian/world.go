package debian

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// World is a private apt world for one mirror and suite, in a directory of its
// own. One process uses it at a time; its methods are not safe for concurrent
// use. Removing the directory removes all of it.
type World struct {
	dir    string
	mirror Mirror
	suite  string
	arch   string
}

var validSuite = regexp.MustCompile(`^[a-z][a-z0-9.+-]*$`)

// Open makes, or opens again, the world in dir, for this machine's
// architecture. It needs no network.
func Open(ctx context.Context, dir string, m Mirror, suite string) (*World, error) {
	return OpenArch(ctx, dir, m, suite, Arch())
}

// OpenArch is [Open] for packages of another architecture, in Debian's word
// for it.
func OpenArch(ctx context.Context, dir string, m Mirror, suite, arch string) (*World, error) {
	if err := haveApt(); err != nil {
		return nil, err
	}
	m, err := m.check()
	if err != nil {
		return nil, err
	}
	if !validSuite.MatchString(suite) {
		return nil, fmt.Errorf("%q is not the name of a suite", suite)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if strings.ContainsAny(dir, "\"\\\n;") {
		return nil, fmt.Errorf("apt cannot work in the directory %q: its name has a quote, a backslash, a semicolon or a newline", dir)
	}
	w := &World{dir: dir, mirror: m, suite: suite, arch: arch}
	if err := w.makeDirs(); err != nil {
		return nil, err
	}
	if err := w.configure(ctx); err != nil {
		return nil, fmt.Errorf("cannot set up apt in %s: %w", dir, err)
	}
	return w, nil
}

func (w *World) path(name string) string { return filepath.Join(w.dir, name) }

func (w *World) makeDirs() error {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "debs"} {
		if err := os.MkdirAll(w.path(d), 0o700); err != nil {
			return fmt.Errorf("cannot set up apt: %w", err)
		}
	}
	// apt's temporary files hold nothing that outlives a run.
	if err := os.RemoveAll(w.path("tmp")); err != nil {
		return fmt.Errorf("cannot set up apt: %w", err)
	}
	return os.Mkdir(w.path("tmp"), 0o700)
}

// configure writes the world's sources.list and apt.conf.
func (w *World) configure(ctx context.Context) error {
	line, err := w.mirror.Line(w.suite, "arch="+w.arch, "lang=none", "target=Packages")
	if err != nil {
		return err
	}
	if err := os.WriteFile(w.path("sources.list"), []byte(line+"\n"), 0o600); err != nil {
		return err
	}
	acquire, err := hostApt(ctx, "apt-config", "dump", "Acquire")
	if err != nil {
		return err
	}
	// It may hold the credentials of a proxy: readable for the user alone.
	return os.WriteFile(w.path("apt.conf"), []byte(w.config(acquire)), 0o600)
}

// config is the whole of the world's apt.conf(5), named by APT_CONFIG, which
// apt reads first: it says that the host's files are not read at all. Their
// hooks would work on the host's files, their pins on its packages.
func (w *World) config(hostAcquire string) string {
	var b strings.Builder
	for line := range strings.Lines(hostAcquire) {
		if keepAcquire(line) {
			b.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	set := func(key, value string) { fmt.Fprintf(&b, "%s \"%s\";\n", key, value) }
	for _, key := range []string{"main", "parts", "preferences", "preferencesparts", "sourceparts", "trusted", "trustedparts"} {
		set("Dir::Etc::"+key, "/dev/null")
	}
	set("Dir::Etc::sourcelist", w.path("sources.list"))
	set("Dir::State", w.path("state"))
	set("Dir::State::status", "/dev/null")
	set("Dir::Cache", w.path("cache"))
	set("Dir::Log", w.path("tmp"))
	set("APT::Architecture", w.arch)
	b.WriteString("#clear APT::Architectures;\n")
	set("APT::Architectures::", w.arch)
	// As root apt would drop to a user who can't enter the world.
	set("APT::Sandbox::User", "root")
	// Without this a mirror that can't be reached is only a warning.
	set("APT::Update::Error-Mode", "any")
	set("Acquire::AllowInsecureRepositories", "false")
	set("Acquire::AllowWeakRepositories", "false")
	set("Acquire::AllowDowngradeToInsecureRepositories", "false")
	set("Acquire::Retries", "2")
	return b.String()
}

// keepAcquire picks what concerns the way to the network.
func keepAcquire(line string) bool {
	if !strings.HasPrefix(line, "Acquire::") {
		return false
	}
	for _, drop := range []string{"IndexTargets", "Languages", "GzipIndexes", "CompressionTypes", "cdrom", "Changelogs", "Allow"} {
		if strings.HasPrefix(line[len("Acquire::"):], drop) {
			return false
		}
	}
	return true
}

// Update fetches the suite's package list and verifies its signature.
func (w *World) Update(ctx context.Context) error {
	if _, err := w.apt(ctx, w.dir, nil, "apt-get", "-q", "update"); err != nil {
		return w.explain("read the package list of "+w.suite, err)
	}
	return nil
}

// explain adds to a failure of apt what can be done about it.
func (w *World) explain(what string, err error) error {
	var apt *aptError
	if !errors.As(err, &apt) {
		return fmt.Errorf("cannot %s: %w", what, err)
	}
	switch {
	case apt.mentions("is not signed", "NO_PUBKEY", "signatures couldn't be verified", "signatures were invalid"):
		return fmt.Errorf("cannot verify the mirror %s with the keys in %s: %w; install a newer debian-archive-keyring, or name another mirror with `sbx settings set setup.mirror URL`", w.mirror.URI, w.mirror.Keyring, err)
	case apt.mentions("Temporary failure resolving", "Could not resolve", "Could not connect", "Unable to connect", "Connection refused", "Connection failed", "connection timed out", "unreachable"):
		return fmt.Errorf("cannot reach the mirror %s: %w; check the network, or name another mirror with `sbx settings set setup.mirror URL`", w.mirror.URI, err)
	}
	return fmt.Errorf("cannot %s from the mirror %s: %w", what, w.mirror.URI, err)
}
