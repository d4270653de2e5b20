package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
)

// table is the outcome of a section.
type table struct {
	head  []string
	rows  [][]string
	notes []string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) note(format string, args ...any) {
	t.notes = append(t.notes, fmt.Sprintf(format, args...))
}

func (t *table) markdown() string {
	var s strings.Builder
	line := func(cells []string) { fmt.Fprintf(&s, "| %s |\n", strings.Join(cells, " | ")) }
	line(t.head)
	rule := slices.Repeat([]string{"--:"}, len(t.head))
	rule[0] = "---"
	line(rule)
	for _, r := range t.rows {
		line(r)
	}
	for _, n := range t.notes {
		fmt.Fprintf(&s, "\n%s\n", n)
	}
	return s.String()
}

// replaceSection puts text between the markers of a section in a file, which
// are added at its end where they are missing.
func replaceSection(path, name, text string) error {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	begin, end := "<!-- bench:"+name+" -->", "<!-- /bench:"+name+" -->"
	block := begin + "\n" + strings.TrimSpace(text) + "\n" + end
	before, rest, ok := strings.Cut(string(data), begin)
	if _, after, closed := strings.Cut(rest, end); ok && closed {
		return renameio.WriteFile(path, []byte(before+block+after), 0o644)
	}
	if before = strings.TrimRight(before, "\n"); before != "" {
		before += "\n\n"
	}
	return renameio.WriteFile(path, []byte(before+block+"\n"), 0o644)
}

// sample is a set of durations of the same thing.
type sample []time.Duration

func (s sample) median() time.Duration {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// spread is the quickest and the slowest.
func (s sample) spread() string {
	if len(s) == 0 {
		return "–"
	}
	return seconds(slices.Min(s)) + " to " + seconds(slices.Max(s))
}

// seconds writes a duration with three figures that count.
func seconds(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func ratio(a, b time.Duration) string {
	if b == 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", float64(a)/float64(b))
}

// verdict says whether a limit is kept.
func verdict(kept bool) string {
	if kept {
		return "kept"
	}
	return "**missed**"
}
