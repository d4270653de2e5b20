package kernel

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"sbx/internal/debian"
	"sbx/internal/progress"
)

// suite is the Debian release whose kernel guests run.
const suite = "trixie"

// Fetch makes the default kernel out of the newest cloud kernel of Debian on
// the mirror m, and returns it. Where there is one already, whole and for this
// machine, it does nothing and needs no network.
func Fetch(ctx context.Context, cache string, m debian.Mirror, report progress.Func) (*Kernel, error) {
	if k, err := Open(cache); err == nil {
		return k, nil
	}
	w, err := openWorkshop(ctx, cache)
	if err != nil {
		return nil, err
	}
	defer w.close()
	// Somebody else may have fetched it in the meantime.
	if k, err := Open(cache); err == nil {
		return k, nil
	}
	k, err := w.fetch(ctx, m, report)
	if err != nil {
		return nil, fmt.Errorf("cannot prepare the kernel: %w", err)
	}
	return k, w.setDefault(k)
}

func (w *workshop) fetch(ctx context.Context, m debian.Mirror, report progress.Func) (*Kernel, error) {
	world, err := debian.Open(ctx, filepath.Join(w.dir, "apt"), m, suite)
	if err != nil {
		return nil, err
	}
	report("reading Debian's package list", 0, 0)
	if err := world.Update(ctx); err != nil {
		return nil, err
	}
	pkg, version, err := world.Resolve(ctx, "linux-image-cloud-"+debian.Arch())
	if err != nil {
		return nil, err
	}
	deb, err := world.Download(ctx, pkg, report)
	if err != nil {
		return nil, err
	}
	report("unpacking "+pkg, 0, 0)
	in, err := unpackDeb(ctx, deb, filepath.Join(w.dir, "modules"))
	if err != nil {
		return nil, fmt.Errorf("cannot unpack the package %s: %w", pkg, err)
	}
	// The lists and the package take more room than what is made of them.
	if err := os.RemoveAll(filepath.Join(w.dir, "apt")); err != nil {
		return nil, err
	}
	in.source = fmt.Sprintf("Debian %s, %s %s", suite, pkg, version)
	in.wanted = allRequired(bootModules)
	return w.build(ctx, in, report)
}

// allRequired makes no exceptions: Debian's kernel has all of them, and a name
// it does not know is a mistake here.
func allRequired(in []bootModule) []bootModule {
	var out []bootModule
	for _, m := range in {
		out = append(out, bootModule{m.name, true})
	}
	return out
}

// unpackDeb reads the kernel out of a package and puts its modules below dir.
func unpackDeb(ctx context.Context, deb, dir string) (ingredients, error) {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return ingredients{}, err
	}
	if err := cmd.Start(); err != nil {
		return ingredients{}, err
	}
	in, err := readKernelTar(out, dir)
	if err != nil {
		out.Close() // dpkg-deb ends on its next write
		return in, errors.Join(err, ctx.Err(), ignoreExit(cmd.Wait()))
	}
	if err := cmd.Wait(); err != nil {
		return in, fmt.Errorf("dpkg-deb: %w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return in, nil
}

// ignoreExit drops the failure of a program whose output was not wanted.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// maxPackage bounds what may come out of a package.
const maxPackage = 4 << 30

// readKernelTar picks boot/vmlinuz-RELEASE and usr/lib/modules/RELEASE/ (or
// lib/modules/, as it was) out of the package's files.
func readKernelTar(r io.Reader, dir string) (ingredients, error) {
	var in ingredients
	limited := &io.LimitedReader{R: r, N: maxPackage}
	tr := tar.NewReader(limited)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return in, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		name := path.Clean(h.Name)
		if rel, ok := strings.CutPrefix(name, "boot/vmlinuz-"); ok {
			in.release = rel
			if in.image, err = io.ReadAll(io.LimitReader(tr, maxKernel)); err != nil {
				return in, err
			}
			continue
		}
		if sub, ok := strings.CutPrefix(strings.TrimPrefix(name, "usr/"), "lib/modules/"); ok {
			if err := writeBelow(dir, sub, tr); err != nil {
				return in, err
			}
		}
	}
	if in.image == nil || strings.ContainsAny(in.release, "/") {
		return in, errors.New("there is no kernel in it")
	}
	in.modules = filepath.Join(dir, in.release)
	// Read to the end, so that dpkg-deb can finish.
	_, err := io.Copy(io.Discard, limited)
	return in, err
}

// writeBelow writes a file of an archive, never outside of dir. Nothing in dir
// is a link: only plain files get there.
func writeBelow(dir, name string, r io.Reader) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("it has a file with the name %q", name)
	}
	p := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(p, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
