package term

import (
	"bytes"
	"strings"
	"unicode"
)

// enq asks a terminal for its answerback message.
const enq = 0x05

func drawingControl(b byte) []byte {
	if b == enq || b == del {
		return nil
	}
	return []byte{b}
}

// linesControl leaves out shifts to other character sets too.
func linesControl(b byte) []byte {
	switch b {
	case '\a', '\b', '\t', '\n', '\r':
		return []byte{b}
	}
	return nil
}

func textControl(b byte) []byte {
	if b == '\n' || b == '\t' {
		return []byte{b}
	}
	return nil // '\r' too, which would let a line overwrite itself
}

func lineControl(b byte) []byte {
	switch b {
	case '\n', '\t', '\r', '\v', '\f':
		return []byte{' '}
	}
	return []byte("\uFFFD")
}

func drawable(rune) bool { return true }

// readable excludes invisible characters and those that reorder text.
func readable(r rune) bool { return unicode.IsPrint(r) }

func nothing([]byte) bool { return false }

// drawing reports whether a terminal program needs the sequence to draw, and no
// other can come to harm by it.
func drawing(s []byte) bool {
	switch s[0] {
	case '[':
		return drawingCSI(s[1:])
	case ']':
		return hyperlink(s[1:])
	}
	if len(s) == 1 {
		// Save and restore the cursor, keypad modes, line feeds, tab stop,
		// reset. Not Z, an old DA.
		return strings.IndexByte("78=>DEHMc", s[0]) >= 0
	}
	switch s[0] {
	case '(', ')', '*', '+', '-', '.', '/': // character sets; not %, away from UTF-8
		return true
	case '#': // double size, alignment
		return len(s) == 2
	}
	return false
}

// colouring reports whether the sequence colours text, moves the cursor, erases
// or links to the web: all that programs write which don't look where they write.
func colouring(s []byte) bool {
	switch s[0] {
	case '[':
		body := s[1 : len(s)-1]
		return len(bytes.TrimLeft(body, "0123456789;:")) == 0 && strings.IndexByte("ABCDEFGHJKm", s[len(s)-1]) >= 0
	case ']':
		return hyperlink(s[1:])
	}
	return false
}

// csiFinals lists the control sequences that pass, by their private prefix and
// intermediate byte, as the final bytes of each. What is left out, with the
// reason where it is not obvious: t (window operations, which report the title
// and more), i (printing), x and $-, '- and *-sequences (rectangles, and
// checksums of what is on the screen), >q (version), =c (unit id), ?S (graphics).
var csiFinals = map[string]string{
	"":   "@ABCDEFGHIJKLMPSTXZ`abcdefghlmnrsu",
	"?":  "JKhlmnrsu",
	">":  "cmnu",
	"<":  "u",
	"=":  "u",
	" ":  "q",
	"!":  "p",
	"\"": "q",
	"$":  "p",
	"?$": "p",
}

func drawingCSI(s []byte) bool {
	final := s[len(s)-1]
	s = s[:len(s)-1]
	kind := ""
	if len(s) > 0 && s[0] >= '<' && s[0] <= '?' {
		kind, s = string(s[:1]), s[1:]
	}
	parameters := bytes.TrimLeft(s, "0123456789;:")
	if len(parameters) > 1 {
		return false
	}
	kind += string(parameters) // an intermediate byte
	return strings.IndexByte(csiFinals[kind], final) >= 0
}

// hyperlink reports whether an operating system command is OSC 8, the
// hyperlink, to a web page or its end.
func hyperlink(s []byte) bool {
	fields := bytes.SplitN(s, []byte{';'}, 3)
	if len(fields) < 3 || string(fields[0]) != "8" {
		return false
	}
	for _, b := range s {
		if b <= ' ' || b >= del {
			return false
		}
	}
	uri := strings.ToLower(string(fields[2]))
	return uri == "" || strings.HasPrefix(uri, "https://") || strings.HasPrefix(uri, "http://")
}
