package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"sbx/internal/nearest"
)

// maxFile bounds the settings file: nobody's is near it.
const maxFile = 1 << 20

// document is a parsed settings file: mappings in mappings, whose scalars are
// the settings. The key of a scalar is its path, joined by dots.
type document struct {
	path    string
	lines   []string // with their line ends
	entries map[string]entry
	order   []string // keys of entries, as they stand in the file
	// sections are the mappings by their key; "" is the file's top.
	sections map[string]section
}

// entry is one "name: value". Lines and columns count from 1, columns in
// characters.
type entry struct {
	value        string
	line         int // of the name
	valueLine    int
	valueColumn  int // 0: there is no value
	nameColumn   int
	singleLine   bool
	valueLiteral string // as it is written in the file
}

type section struct {
	line     int // of its name
	column   int // of its name
	children []string
	// childColumn is where its names begin, childLine where its last one ends.
	childColumn, childLine int
}

// parse reads the structure and accepts unknown keys; check judges them.
func parse(path string, data []byte) (*document, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes and can't be a settings file", path, maxFile)
	}
	d := &document{
		path:     path,
		lines:    strings.SplitAfter(string(data), "\n"),
		entries:  make(map[string]entry),
		sections: make(map[string]section),
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, d.syntaxError(err)
	}
	if len(file.Docs) > 1 && file.Docs[1].Body != nil {
		return nil, fmt.Errorf("%s holds more than one YAML document; keep one", path)
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return d, nil
	}
	if _, null := file.Docs[0].Body.(*ast.NullNode); null {
		return d, nil
	}
	top, ok := file.Docs[0].Body.(ast.MapNode)
	if !ok {
		return nil, d.errorAt(file.Docs[0].Body, "expected settings such as \"vm:\", not a %s", kind(file.Docs[0].Body))
	}
	return d, d.walk("", section{}, top)
}

func (d *document) walk(prefix string, s section, m ast.MapNode) error {
	for it := m.MapRange(); it.Next(); {
		name, value := it.Key(), it.Value()
		key := name.GetToken().Value
		if prefix != "" {
			key = prefix + "." + key
		}
		if _, again := d.entries[key]; again {
			return d.errorAt(name, "%s is set twice", key)
		}
		pos := name.GetToken().Position
		s.children = append(s.children, key)
		s.childColumn = pos.Column
		s.childLine = max(s.childLine, pos.Line)
		switch v := value.(type) {
		case ast.MapNode:
			if strings.Count(key, ".") > 8 {
				return d.errorAt(name, "%s is nested too deeply", key)
			}
			if err := d.walk(key, section{line: pos.Line, column: pos.Column}, v); err != nil {
				return err
			}
			s.childLine = max(s.childLine, d.sections[key].childLine)
		case *ast.NullNode:
			d.sections[key] = section{line: pos.Line, column: pos.Column}
		case ast.ScalarNode:
			d.add(key, name, v)
			s.childLine = max(s.childLine, v.GetToken().Position.Line)
		default:
			return d.errorAt(value, "%s: expected a single value, not a %s", key, kind(value))
		}
	}
	d.sections[prefix] = s
	return nil
}

func (d *document) add(key string, name ast.Node, value ast.ScalarNode) {
	np, tk := name.GetToken().Position, value.GetToken()
	e := entry{
		value:       tk.Value,
		line:        np.Line,
		nameColumn:  np.Column,
		valueLine:   tk.Position.Line,
		valueColumn: tk.Position.Column,
	}
	e.valueLiteral = strings.TrimSpace(tk.Origin)
	e.singleLine = !strings.Contains(e.valueLiteral, "\n") && np.Line == tk.Position.Line
	if _, literal := value.(*ast.LiteralNode); literal {
		e.singleLine = false
		e.value = strings.TrimSpace(value.GetValue().(string))
	}
	d.entries[key] = e
	d.order = append(d.order, key)
}

// check judges keys and values by the definitions.
func (d *document) check() error {
	for _, key := range d.order {
		e := d.entries[key]
		def, err := lookup(key)
		if err != nil && isPrefix(key) {
			return fmt.Errorf("%s:%d: %s is a group of settings, not a single one", d.path, e.line, key)
		}
		if err != nil {
			return fmt.Errorf("%s:%d: %w", d.path, e.line, err)
		}
		if err := def.check(e.value); err != nil {
			return fmt.Errorf("%s:%d: %s: %w", d.path, e.line, key, err)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(d.sections)) {
		if key != "" && !isPrefix(key) {
			return fmt.Errorf("%s:%d: unknown setting %q%s; 'sbx settings list' shows all", d.path, d.sections[key].line, key, nearest.Suggest(key, prefixes()))
		}
	}
	return nil
}

// prefixes are the names of the sections that definitions lie in.
func prefixes() []string {
	var list []string
	for _, key := range Keys() {
		p, _, _ := strings.Cut(key, ".")
		list = append(list, p)
	}
	return list
}

// isPrefix says whether a section, or a key without a value, may have this
// name. A key without a value is as good as one that isn't there.
func isPrefix(key string) bool {
	for _, k := range Keys() {
		if k == key || strings.HasPrefix(k, key+".") {
			return true
		}
	}
	return false
}

func (d *document) errorAt(n ast.Node, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", d.path, n.GetToken().Position.Line, fmt.Sprintf(format, args...))
}

// syntaxError turns the library's drawing of the place into one line.
func (d *document) syntaxError(err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil {
		return fmt.Errorf("%s:%d: not valid YAML: %s", d.path, y.GetToken().Position.Line, y.GetMessage())
	}
	return fmt.Errorf("%s: not valid YAML: %w", d.path, err)
}

func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.SequenceNode:
		return "list"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "group of settings"
	case ast.ScalarNode:
		return "single value"
	}
	return strings.ToLower(n.Type().String())
}
