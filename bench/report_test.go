package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestReplaceSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.md")
	for _, step := range []struct{ name, text, want string }{
		{"a", "one\n", "<!-- bench:a -->\none\n<!-- /bench:a -->\n"},
		{"b", "two", "<!-- bench:a -->\none\n<!-- /bench:a -->\n\n<!-- bench:b -->\ntwo\n<!-- /bench:b -->\n"},
		{"a", "new", "<!-- bench:a -->\nnew\n<!-- /bench:a -->\n\n<!-- bench:b -->\ntwo\n<!-- /bench:b -->\n"},
	} {
		if err := replaceSection(path, step.name, step.text); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != step.want {
			t.Errorf("got %q (%v), want %q", got, err, step.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		in   sample
		want time.Duration
	}{{nil, 0}, {sample{3, 1, 2}, 2}, {sample{4, 2}, 3}} {
		if got := test.in.median(); got != test.want {
			t.Errorf("median(%v) = %v, want %v", test.in, got, test.want)
		}
	}
}

func TestMarkdown(t *testing.T) {
	x := &table{head: []string{"what", "time"}}
	x.add("a", seconds(1500*time.Microsecond))
	x.note("a note")
	if got, want := x.markdown(), "| what | time |\n| --- | --: |\n| a | 1.5 ms |\n\na note\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
