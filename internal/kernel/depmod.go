package kernel

import (
	"bytes"
	"fmt"
	"strings"
)

// depmod makes the files that modprobe in the guest looks names up in, as
// depmod(8) does after a kernel package is installed. They are not part of the
// package, and the host need not have that program.
func (t *tree) depmod() (map[string][]byte, error) {
	deps, err := t.dependencies()
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	var text bytes.Buffer
	index := &trie{}
	for i, m := range t.modules {
		line := m.path + ":"
		for _, d := range deps[i] {
			line += " " + d.path
		}
		fmt.Fprintln(&text, line)
		index.add(m.name, line, i)
	}
	files["modules.dep"], files["modules.dep.bin"] = text.Bytes(), index.bytes()
	files["modules.alias"], files["modules.alias.bin"] = t.aliases()
	files["modules.symbols"], files["modules.symbols.bin"] = t.symbols()
	files["modules.softdep"] = t.softdeps()
	files["modules.devname"] = t.devnames()
	files["modules.builtin.bin"], files["modules.builtin.alias.bin"] = t.builtinIndexes()
	return files, nil
}

// dependencies lists, for each module, all that have to be loaded before it,
// the last to load first: the order of modules.dep.
func (t *tree) dependencies() ([][]*module, error) {
	out := make([][]*module, len(t.modules))
	r := newResolver(t)
	for i := range t.modules {
		walk := &resolver{byName: r.byName, builtin: r.builtin, state: map[string]int{}, hardOnly: true}
		if err := walk.visit(t.modules[i].name); err != nil {
			return nil, err
		}
		loaded := walk.order[:len(walk.order)-1] // without itself
		for j := len(loaded) - 1; j >= 0; j-- {
			out[i] = append(out[i], loaded[j])
		}
	}
	return out, nil
}

func (t *tree) aliases() (text, bin []byte) {
	var b bytes.Buffer
	b.WriteString("# Aliases extracted from modules themselves.\n")
	index := &trie{}
	for i, m := range t.modules {
		for _, a := range m.aliases {
			fmt.Fprintf(&b, "alias %s %s\n", a, m.name)
			index.add(normalizeAlias(a), m.name, i)
		}
	}
	return b.Bytes(), index.bytes()
}

func (t *tree) symbols() (text, bin []byte) {
	var b bytes.Buffer
	b.WriteString("# Aliases for symbols, used by symbol_request().\n")
	index := &trie{}
	for i, m := range t.modules {
		for _, s := range m.symbols {
			fmt.Fprintf(&b, "alias symbol:%s %s\n", s, m.name)
			index.add("symbol:"+s, m.name, i)
		}
	}
	return b.Bytes(), index.bytes()
}

func (t *tree) softdeps() []byte {
	var b bytes.Buffer
	b.WriteString("# Soft dependencies extracted from modules themselves.\n")
	for _, m := range t.modules {
		for _, s := range m.softdeps {
			fmt.Fprintf(&b, "softdep %s %s\n", m.name, s)
		}
	}
	return b.Bytes()
}

// devnames lists the device nodes whose opening loads a module.
func (t *tree) devnames() []byte {
	var b bytes.Buffer
	b.WriteString("# Device nodes to trigger on-demand module loading.\n")
	for _, m := range t.modules {
		node, device := "", ""
		for _, a := range m.aliases {
			var major, minor uint
			if name, ok := strings.CutPrefix(a, "devname:"); ok {
				node = name
			} else if n, _ := fmt.Sscanf(a, "char-major-%d-%d", &major, &minor); n == 2 {
				device = fmt.Sprintf("c%d:%d", major, minor)
			} else if n, _ := fmt.Sscanf(a, "block-major-%d-%d", &major, &minor); n == 2 {
				device = fmt.Sprintf("b%d:%d", major, minor)
			}
		}
		if node != "" && device != "" {
			fmt.Fprintf(&b, "%s %s %s\n", m.name, node, device)
		}
	}
	return b.Bytes()
}

func (t *tree) builtinIndexes() (names, aliases []byte) {
	n, a := &trie{}, &trie{}
	for _, name := range t.builtin {
		n.add(name, "", 0)
	}
	for _, pair := range t.builtinAliases {
		a.add(normalizeAlias(pair[0]), pair[1], 0)
	}
	return n.bytes(), a.bytes()
}
