package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"golang.org/x/sync/errgroup"
)

// maxModule bounds one module, unpacked; with debugging information the
// largest have tens of megabytes.
const maxModule = 512 << 20

// module is what a .ko file says of itself.
type module struct {
	name     string   // as in /proc/modules, with underscores
	path     string   // below the release's directory
	depends  []string // names of modules whose symbols it uses
	softdeps []string // "pre: a b post: c"
	aliases  []string // other names, with wildcards
	symbols  []string // what it exports
}

// moduleName is the name of the module in file p. The kernel takes '-' and
// '_' for the same; names in /proc/modules have '_'.
func moduleName(p string) string {
	base := path.Base(p)
	if i := strings.Index(base, ".ko"); i >= 0 {
		base = base[:i]
	}
	return strings.ReplaceAll(base, "-", "_")
}

func isModule(p string) bool {
	for _, ext := range []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"} {
		if strings.HasSuffix(p, ext) {
			return true
		}
	}
	return false
}

// parseModule reads a module's sections.
func parseModule(p string, ko []byte) (module, error) {
	m := module{name: moduleName(p), path: p}
	f, err := elf.NewFile(bytes.NewReader(ko))
	if err != nil {
		return m, fmt.Errorf("module %s: %w", p, err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return m, fmt.Errorf("module %s has no .modinfo section", p)
	}
	info, err := s.Data()
	if err != nil {
		return m, fmt.Errorf("module %s: %w", p, err)
	}
	m.readInfo(info)
	symbols, err := f.Symbols()
	if err != nil && !errors.Is(err, elf.ErrNoSymbols) {
		return m, fmt.Errorf("module %s: %w", p, err)
	}
	for _, s := range symbols {
		if name, ok := strings.CutPrefix(s.Name, "__ksymtab_"); ok {
			m.symbols = append(m.symbols, name)
		}
	}
	return m, nil
}

// readInfo reads "key=value" strings, each ended by a zero byte.
func (m *module) readInfo(info []byte) {
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		key, value, ok := strings.Cut(string(entry), "=")
		if !ok || value == "" || strings.Contains(value, "\n") {
			continue
		}
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, strings.ReplaceAll(d, "-", "_"))
				}
			}
		case "softdep":
			m.softdeps = append(m.softdeps, value)
		case "alias":
			m.aliases = append(m.aliases, value)
		}
	}
}

// tree is the directory of one release's modules.
type tree struct {
	dir     string
	files   []string // all regular files, sorted
	modules []module // in the order of modules.order
	builtin []string // names of what is part of the kernel itself
	// builtinAliases are the other names of those: alias, name.
	builtinAliases [][2]string
}

// readTree reads all modules below dir.
func readTree(ctx context.Context, dir string) (*tree, error) {
	t := &tree{dir: dir}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() { // "build" and "source" are links
			return err
		}
		rel, err := filepath.Rel(dir, p)
		t.files = append(t.files, filepath.ToSlash(rel))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read the kernel's modules: %w", err)
	}
	if err := t.readBuiltin(); err != nil {
		return nil, err
	}
	return t, t.readModules(ctx)
}

func (t *tree) readBuiltin() error {
	list, err := os.ReadFile(filepath.Join(t.dir, "modules.builtin"))
	if err != nil {
		return fmt.Errorf("%s is not a directory of modules: %w; give the one that `make modules_install` fills, lib/modules/RELEASE", t.dir, err)
	}
	for _, p := range strings.Fields(string(list)) {
		t.builtin = append(t.builtin, moduleName(p))
	}
	info, err := os.ReadFile(filepath.Join(t.dir, "modules.builtin.modinfo"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the kernel's modules: %w", err)
	}
	t.builtinAliases = parseBuiltinInfo(info)
	return nil
}

// parseBuiltinInfo reads "module.alias=value" strings, each ended by a zero
// byte.
func parseBuiltinInfo(info []byte) [][2]string {
	var out [][2]string
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		key, value, ok := strings.Cut(string(entry), "=")
		name, isAlias := strings.CutSuffix(key, ".alias")
		if ok && isAlias && value != "" {
			out = append(out, [2]string{value, strings.ReplaceAll(name, "-", "_")})
		}
	}
	return out
}

func (t *tree) readModules(ctx context.Context) error {
	var paths []string
	for _, f := range t.files {
		if isModule(f) {
			paths = append(paths, f)
		}
	}
	t.sortByOrder(paths)
	t.modules = make([]module, len(paths))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, p := range paths {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			ko, err := t.unpack(p)
			if err != nil {
				return err
			}
			t.modules[i], err = parseModule(p, ko)
			return err
		})
	}
	return g.Wait()
}

// sortByOrder puts modules in the order of their linking, in which later ones
// yield to earlier ones; those that modules.order does not list come last.
func (t *tree) sortByOrder(paths []string) {
	position := map[string]int{}
	list, err := os.ReadFile(filepath.Join(t.dir, "modules.order"))
	if err == nil {
		for i, p := range strings.Fields(string(list)) {
			position[p] = i
		}
	}
	at := func(p string) int {
		if i := strings.LastIndex(p, ".ko"); i >= 0 {
			p = p[:i+len(".ko")]
		}
		if i, ok := position[p]; ok {
			return i
		}
		return len(position)
	}
	sort.SliceStable(paths, func(i, j int) bool { return at(paths[i]) < at(paths[j]) })
}

// unpack returns a module as the ELF file that the kernel loads.
func (t *tree) unpack(p string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(t.dir, filepath.FromSlash(p)))
	if err != nil {
		return nil, fmt.Errorf("cannot read the kernel's modules: %w", err)
	}
	if strings.HasSuffix(p, ".ko") {
		return data, nil
	}
	var out bytes.Buffer
	if _, err := decompress(&out, data, maxModule); err != nil {
		return nil, fmt.Errorf("cannot unpack the module %s: %w", p, err)
	}
	return out.Bytes(), nil
}
