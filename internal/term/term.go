// Package term keeps what an untrusted program writes from abusing the user's
// terminal.
//
// Start with [Printable] for text that sbx shows itself (names, log lines, the
// guest's error messages), and [NewFilter] for the output of a program that may
// draw on the terminal. Both promise: no byte they let through can write to the
// clipboard, make the terminal answer into its own input in a way that a program
// can shape, or start a string that swallows what follows.
package term

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns s as one line of plain text: escape sequences are left out
// whole, white space becomes a blank, and every other character that is not
// printable, bidirectional overrides among them, and all that is not UTF-8,
// becomes U+FFFD.
func Printable(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for len(s) > 0 {
		if n := sequence(s); n > 0 {
			s = s[n:]
			continue
		}
		r, n := utf8.DecodeRuneInString(s)
		s = s[n:]
		switch {
		case unicode.IsSpace(r) && r != '\u0085':
			r = ' '
		case !unicode.IsPrint(r):
			r = utf8.RuneError
		}
		b.WriteRune(r)
	}
	return b.String()
}

func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// sequence returns the length of the escape sequence at the start of s, 0 if
// there is none. One that is not finished ends where s does.
func sequence(s string) int {
	var p parser
	for i := range len(s) {
		if p.next(s[i]); p.state == ground {
			if i == 0 {
				return 0
			}
			if p.cancelled { // s[i] cancelled the sequence and is not part of it
				return i
			}
			return i + 1
		}
	}
	return len(s)
}
