package kernel

import (
	"fmt"
	"strings"
)

// bootModule is a module that a guest needs before its root disk is there.
type bootModule struct {
	name     string
	required bool // sbx can't do without
}

// bootModules are loaded in this order, each after what it depends on: first
// what answering the host and mounting the root disk takes, as loading one
// costs 10 to 25 ms under emulation.
var bootModules = []bootModule{
	{"virtio_pci", true},
	{"virtio_console", true},
	{"virtio_blk", true},
	{"ext4", true},
	{"fuse", true},
	{"virtiofs", true},
	{"virtio_balloon", false},
	{"virtio_rng", false},
}

// resolver finds what has to be loaded for a module.
type resolver struct {
	byName  map[string]*module
	byAlias map[string][]string
	builtin map[string]bool // names and exact aliases
	// hardOnly leaves soft dependencies out.
	hardOnly bool
	order    []*module
	state    map[string]int // 1: being resolved, 2: in order
}

func newResolver(t *tree) *resolver {
	r := &resolver{
		byName: map[string]*module{}, byAlias: map[string][]string{},
		builtin: map[string]bool{}, state: map[string]int{},
	}
	for i := range t.modules {
		m := &t.modules[i]
		r.byName[m.name] = m
		for _, a := range m.aliases {
			if a = normalizeAlias(a); !strings.ContainsAny(a, "*?[") {
				r.byAlias[a] = append(r.byAlias[a], m.name)
			}
		}
	}
	for _, name := range t.builtin {
		r.builtin[name] = true
	}
	for _, a := range t.builtinAliases {
		r.builtin[normalizeAlias(a[0])] = true
	}
	return r
}

// resolveBoot returns the modules to load for wanted, in load order, and the
// names of those that the kernel doesn't have. A required one that is missing
// is an error.
func resolveBoot(t *tree, wanted []bootModule) (load []*module, missing []string, err error) {
	r := newResolver(t)
	for _, w := range wanted {
		if r.builtin[w.name] {
			continue
		}
		if r.byName[w.name] == nil {
			if w.required {
				return nil, nil, fmt.Errorf("the kernel has no %s, neither built in nor as a module", w.name)
			}
			missing = append(missing, w.name)
			continue
		}
		if err := r.visit(w.name); err != nil {
			return nil, nil, err
		}
	}
	return r.order, missing, nil
}

// visit appends a module to the order, after what it depends on.
func (r *resolver) visit(name string) error {
	m := r.byName[name]
	switch {
	case r.state[name] == 2 || m == nil && r.builtin[name]:
		return nil
	case m == nil:
		return fmt.Errorf("the kernel has no module %s", name)
	case r.state[name] == 1:
		return fmt.Errorf("the kernel's module %s depends on itself", name)
	}
	r.state[name] = 1
	for _, d := range r.soft(m) {
		// A wish may lead in a circle; then it is not fulfilled.
		if r.state[d] == 1 {
			continue
		}
		if err := r.visit(d); err != nil {
			return err
		}
	}
	for _, d := range m.depends {
		if err := r.visit(d); err != nil {
			return fmt.Errorf("for %s: %w", name, err)
		}
	}
	r.state[name] = 2
	r.order = append(r.order, m)
	return nil
}

// soft returns the modules that a module wishes to have loaded first. What
// the kernel lacks is not an error, after modprobe.d(5).
func (r *resolver) soft(m *module) []string {
	if r.hardOnly {
		return nil
	}
	var out []string
	for _, text := range m.softdeps {
		for _, word := range softPre(text) {
			name := normalizeAlias(word)
			switch {
			case r.builtin[name]:
			case r.byName[name] != nil:
				out = append(out, name)
			default:
				out = append(out, r.byAlias[name]...)
			}
		}
	}
	return out
}

// softPre returns the words after "pre:" in "pre: a b post: c".
func softPre(text string) []string {
	var out []string
	pre := false
	for _, word := range strings.Fields(text) {
		switch {
		case strings.HasSuffix(word, ":"):
			pre = word == "pre:"
		case pre:
			out = append(out, word)
		}
	}
	return out
}

// normalizeAlias replaces '-' by '_' outside of brackets, as modprobe does
// before it compares.
func normalizeAlias(a string) string {
	if !strings.Contains(a, "-") {
		return a
	}
	b, bracket := []byte(a), false
	for i, c := range b {
		switch {
		case c == '[':
			bracket = true
		case c == ']':
			bracket = false
		case c == '-' && !bracket:
			b[i] = '_'
		}
	}
	return string(b)
}
