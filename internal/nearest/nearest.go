// Package nearest finds the name that a user most likely meant.
package nearest

import (
	"fmt"
	"strings"
)

// Name returns the one of names that is nearest to word by edits (insert,
// delete, replace, swap of neighbours), or "" when none is near enough to be a
// slip of the fingers. A name that word begins, or that word begins with,
// counts as near. Case doesn't matter; among equals the first wins.
func Name(word string, names []string) string {
	best, bestDistance := "", 1+max(1, len([]rune(word))/3)
	w := []rune(strings.ToLower(word))
	if len(w) == 0 || len(w) > maxWord {
		return ""
	}
	for _, name := range names {
		n := []rune(strings.ToLower(name))
		if len(n) == 0 || len(n) > maxWord {
			continue
		}
		if d := distance(w, n); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	if best != "" || len(w) < 3 {
		return best
	}
	for _, name := range names {
		n := strings.ToLower(name)
		if strings.HasPrefix(n, string(w)) || len(n) >= 3 && strings.HasPrefix(string(w), n) {
			return name
		}
	}
	return ""
}

// maxWord bounds the work for absurd input.
const maxWord = 128

// Suggest renders the nearest name as the middle of an error message:
// `; did you mean "web"?` or nothing.
func Suggest(word string, names []string) string {
	if n := Name(word, names); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// distance is the optimal string alignment distance of a and b.
func distance(a, b []rune) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
