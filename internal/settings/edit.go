package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// Set gives key a value in the settings file at path, which is made if it
// isn't there. Everything else in the file stays as it is.
func Set(path, key, value string) error {
	def, err := lookup(key)
	if err != nil {
		return err
	}
	if err := def.check(value); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return update(path, func(d *document) ([]string, error) { return d.with(key, value) }, true)
}

// Unset removes key from the settings file at path, so that its default holds
// again. A key that isn't in the file is no error; one that is there may be
// removed even if it is unknown.
func Unset(path, key string) error {
	return update(path, func(d *document) ([]string, error) {
		if _, ok := d.entries[key]; ok {
			return d.without(key)
		}
		_, err := lookup(key)
		return d.lines, err
	}, false)
}

// update rewrites the file under a lock on its directory, which leaves no lock
// file in a directory that people keep in git.
func update(path string, edit func(*document) ([]string, error), create bool) error {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved // keep the user's symbolic link to a file elsewhere
	}
	dir := filepath.Dir(path)
	if create {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("cannot make the settings' directory: %w", err)
		}
	}
	lock := flock.New(dir, flock.SetFlag(os.O_RDONLY))
	if err := lock.Lock(); err != nil {
		if errors.Is(err, fs.ErrNotExist) && !create {
			dir = "" // nothing there, so nothing to lock
		} else {
			return fmt.Errorf("cannot lock the settings' directory: %w", err)
		}
	}
	defer lock.Close()

	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot read the settings: %w", err)
	}
	doc, err := parse(path, data)
	if err != nil {
		return fmt.Errorf("%w; mend it first", err)
	}
	lines, err := edit(doc)
	if err != nil {
		return err
	}
	text := strings.Join(lines, "")
	if text == string(data) || dir == "" {
		return nil
	}
	if err := renameio.WriteFile(path, []byte(text), 0o600, renameio.WithExistingPermissions()); err != nil {
		return fmt.Errorf("cannot write the settings: %w", err)
	}
	return nil
}

// with returns the file's lines with key set. It tries the ways to write the
// value from the plainest on and takes the first whose outcome reads back as
// intended, so that no peculiarity of the file can damage it.
func (d *document) with(key, value string) ([]string, error) {
	want := d.values()
	want[key] = value
	for _, literal := range []string{value, strconv.Quote(value)} {
		lines := d.place(key, literal)
		if d.reads(lines, want) {
			return lines, nil
		}
	}
	return nil, fmt.Errorf("%s is laid out in a way that can't be changed automatically; edit it by hand", d.path)
}

func (d *document) without(key string) ([]string, error) {
	e := d.entries[key]
	want := d.values()
	delete(want, key)
	lines := slices.Clone(d.lines)
	if e.singleLine {
		from, to := e.line-1, e.line
		if d.onlyChildBelowName(key) {
			from--
		}
		lines = slices.Delete(lines, from, to)
	}
	if !d.reads(lines, want) {
		return nil, fmt.Errorf("%s:%d: %s is laid out in a way that can't be removed automatically; edit it by hand", d.path, e.line, key)
	}
	return lines, nil
}

// onlyChildBelowName says whether removing key would leave its section empty
// with nothing, no comment either, between the section's name and key.
func (d *document) onlyChildBelowName(key string) bool {
	i := strings.LastIndex(key, ".")
	if i < 0 {
		return false
	}
	s := d.sections[key[:i]]
	return len(s.children) == 1 && s.line == d.entries[key].line-1 &&
		!strings.Contains(d.lines[s.line-1], "#")
}

// reads says whether lines are a file with exactly the values wanted.
func (d *document) reads(lines []string, want map[string]string) bool {
	again, err := parse(d.path, []byte(strings.Join(lines, "")))
	return err == nil && maps.Equal(again.values(), want)
}

func (d *document) values() map[string]string {
	m := make(map[string]string, len(d.entries))
	for key, e := range d.entries {
		m[key] = e.value
	}
	return m
}

// place writes literal as the value of key: over the present one, or below
// its section's last setting, or in a section of its own at the end.
func (d *document) place(key, literal string) []string {
	lines := slices.Clone(d.lines)
	if e, ok := d.entries[key]; ok {
		return replace(lines, e, literal)
	}
	prefix, name, _ := strings.Cut(key, ".")
	if null, ok := d.sections[key]; ok { // "accel:" without a value
		line := []rune(lines[null.line-1])
		at := null.column - 1 + len([]rune(name)) + 1
		if at > len(line) {
			return nil
		}
		lines[null.line-1] = string(line[:at]) + " " + literal + string(line[at:])
		return lines
	}
	s, ok := d.sections[prefix]
	if !ok {
		return appendLines(lines, prefix+":\n", "  "+name+": "+literal+"\n")
	}
	at, indent := s.line, s.column+1
	if len(s.children) > 0 {
		at, indent = s.childLine, s.childColumn-1
	}
	at = min(at, len(lines))
	if !strings.HasSuffix(lines[at-1], "\n") {
		lines[at-1] += "\n"
	}
	return slices.Insert(lines, at, strings.Repeat(" ", indent)+name+": "+literal+"\n")
}

// replace puts literal where the value of e stands.
func replace(lines []string, e entry, literal string) []string {
	if !e.singleLine || e.valueLine > len(lines) {
		return nil
	}
	line := []rune(lines[e.valueLine-1])
	from := e.valueColumn - 1
	to := from + len([]rune(e.valueLiteral))
	if from < 0 || to > len(line) || string(line[from:to]) != e.valueLiteral {
		return nil
	}
	lines[e.valueLine-1] = string(line[:from]) + literal + string(line[to:])
	return lines
}

// appendLines adds lines at the end, after an empty line if there is text.
func appendLines(lines []string, more ...string) []string {
	if n := len(lines) - 1; n >= 0 && lines[n] == "" {
		lines = lines[:n]
	}
	if n := len(lines) - 1; n >= 0 {
		if !strings.HasSuffix(lines[n], "\n") {
			lines[n] += "\n"
		}
		if strings.TrimSpace(lines[n]) != "" {
			lines = append(lines, "\n")
		}
	}
	return append(lines, more...)
}
