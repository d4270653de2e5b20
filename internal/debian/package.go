package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"sbx/internal/progress"
)

// Package is a package as the signed list describes it.
type Package struct {
	Name, Version string
	Size          int64  // of the .deb, in bytes
	SHA256        string // of the .deb, hex
	depends       []string
	installedKB   int64
}

var validPackage = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+$`)

// Resolve returns the name and version of the package that pkg stands for: a
// meta package, such as one for the newest kernel, is followed to the real
// one. It needs no network after [World.Update].
func (w *World) Resolve(ctx context.Context, pkg string) (name, version string, err error) {
	p, err := w.Lookup(ctx, pkg)
	return p.Name, p.Version, err
}

// Lookup is [World.Resolve] with all that the list says.
func (w *World) Lookup(ctx context.Context, pkg string) (Package, error) {
	for range 5 {
		p, err := w.show(ctx, pkg)
		if err != nil {
			return Package{}, err
		}
		next := p.standsFor()
		if next == "" {
			return p, nil
		}
		pkg = next
	}
	return Package{}, fmt.Errorf("the package %s only leads to further meta packages", pkg)
}

func (w *World) show(ctx context.Context, pkg string) (Package, error) {
	if !validPackage.MatchString(pkg) {
		return Package{}, fmt.Errorf("%q is not the name of a package", pkg)
	}
	out, err := w.apt(ctx, w.dir, nil, "apt-cache", "show", "--no-all-versions", pkg)
	var apt *aptError
	if errors.As(err, &apt) && apt.mentions("No packages found", "Unable to locate") {
		return Package{}, fmt.Errorf("the mirror %s has no package %s for %s in %s", w.mirror.URI, pkg, w.arch, w.suite)
	}
	if err != nil {
		return Package{}, w.explain("look up the package "+pkg, err)
	}
	return parsePackage(out)
}

func parsePackage(text string) (Package, error) {
	all := stanzas(text)
	if len(all) == 0 {
		return Package{}, errors.New("apt-cache printed no package")
	}
	f := all[0]
	p := Package{Name: f["package"], Version: f["version"], SHA256: f["sha256"]}
	var err error
	if p.Size, err = strconv.ParseInt(f["size"], 10, 64); err != nil {
		return Package{}, fmt.Errorf("apt-cache printed no size for the package %q", p.Name)
	}
	if len(p.SHA256) != sha256.Size*2 || !validPackage.MatchString(p.Name) || p.Version == "" {
		return Package{}, fmt.Errorf("apt-cache printed no name, version or SHA-256 for the package %q", p.Name)
	}
	p.installedKB, _ = strconv.ParseInt(f["installed-size"], 10, 64)
	for _, d := range strings.Split(f["depends"], ",") {
		if d = strings.TrimSpace(d); d != "" {
			p.depends = append(p.depends, d)
		}
	}
	return p, nil
}

// standsFor returns the real package behind a meta package: one that is all
// but empty and whose only dependency is one package in one exact version.
func (p Package) standsFor() string {
	const empty = 64 // KB; a changelog and a copyright file
	if len(p.depends) != 1 || p.installedKB > empty {
		return ""
	}
	name, version, pinned := strings.Cut(p.depends[0], " (= ")
	if !pinned || !strings.HasSuffix(version, ")") || !validPackage.MatchString(name) {
		return ""
	}
	return name
}

// Download fetches the .deb of the package that pkg stands for and returns its
// path inside the world. A file that is there already is checked and used
// without the network; an interrupted download starts over.
func (w *World) Download(ctx context.Context, pkg string, report progress.Func) (string, error) {
	p, err := w.Lookup(ctx, pkg)
	if err != nil {
		return "", err
	}
	final := filepath.Join(w.path("debs"), p.Name+"_"+p.SHA256[:16]+".deb")
	if checkFile(final, p) == nil {
		return final, nil
	}
	tmp := w.path("tmp/download")
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return "", err
	}
	stage := "downloading " + p.Name
	status := func(percent float64) { report(stage, int64(percent/100*float64(p.Size)), p.Size) }
	if _, err := w.apt(ctx, tmp, status, "apt-get", "-q", "download", p.Name+"="+p.Version); err != nil {
		return "", w.explain("download the package "+p.Name, err)
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("apt-get downloaded %d files for the package %s", len(found), p.Name)
	}
	if err := checkFile(found[0], p); err != nil {
		return "", err
	}
	report(stage, p.Size, p.Size)
	return final, os.Rename(found[0], final)
}

// checkFile holds a file against the signed list.
func checkFile(path string, p Package) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, p.Size+1))
	if err != nil {
		return err
	}
	if n != p.Size || hex.EncodeToString(h.Sum(nil)) != p.SHA256 {
		return fmt.Errorf("%s is not the file that the archive's list promises", path)
	}
	return nil
}
