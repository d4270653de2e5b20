// Package term keeps what an untrusted program writes from abusing the user's
// terminal.
//
// Start with [Filter] for the output of a program that may draw on the
// terminal, [Lines] for that of one which got none, [PlainText] for its logs, and [Printable] for names and messages of
// its that sbx shows itself. What they promise:
//
//   - Only sequences from a list pass, each checked as a whole: those that move
//     the cursor, erase, colour, and switch the modes that terminal programs use.
//   - Nothing passes that writes or reads the clipboard, sets the title, marks
//     prompts, prints, sends files, or runs an interpreter of its own (OSC, DCS,
//     APC, PM, SOS strings); the one exception is a hyperlink to a web page.
//   - The terminal is asked nothing whose answer a program could shape, such as
//     its title, or that tells what is on the screen. Where the cursor is and
//     which modes there are may be asked: programs need it to draw.
//   - UTF-8 passes unchanged; bytes that are no UTF-8 become U+FFFD, for a
//     terminal might take them for control characters.
//
// A program can still draw what it likes, a false prompt too, for as long as it
// has the terminal. [Reset] is for the moment when it has it no more.
package term

import (
	"io"
	"strings"
)

// Reset takes back what a program may have left behind: the alternate screen,
// scroll margins, colours, character sets, a hidden cursor, mouse reports,
// pasting and keyboard modes, an open hyperlink. The cursor stays where it is:
// leaving the alternate screen restores it (to where it was saved, so it is
// saved first), and resetting margins or origin mode moves it home.
const Reset = "\x1b7\x1b[?1049l\x1b7\x1b[r\x1b[?6l\x1b8" +
	"\x1b[0m\x1b(B\x0f\x1b[?1l\x1b>\x1b[?7h" +
	"\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\x1b[?1016l" +
	"\x1b[?2004l\x1b[?2026l\x1b[<99u\x1b[>4m\x1b]8;;\x1b\\\x1b[?25h\x1b[4l"

// Filter returns a writer to a terminal, w, that lets drawing pass. A sequence
// may be spread over any number of writes. It needs memory for one sequence.
func Filter(w io.Writer) io.Writer {
	return &filter{w: w, control: drawingControl, sequence: drawing, char: drawable}
}

// Lines returns a writer to a terminal, w, for the output of a program that
// knows of no terminal: text in colours and progress bars pass, the terminal is
// asked nothing and switched to no mode that would outlive the program.
func Lines(w io.Writer) io.Writer {
	return &filter{w: w, control: linesControl, sequence: colouring, char: drawable}
}

// PlainText returns a writer to w that lets only text, tabs and newlines pass.
func PlainText(w io.Writer) io.Writer {
	return &filter{w: w, control: textControl, sequence: nothing, char: readable}
}

// Printable returns s as one line of plain text: sequences are left out, white
// space becomes a blank, what is not printable becomes U+FFFD.
func Printable(s string) string {
	if plain(s) {
		return s
	}
	var b strings.Builder
	f := &filter{w: &b, control: lineControl, sequence: nothing, char: readable}
	io.WriteString(f, s) // a Builder's Write can't fail
	f.finish()
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
