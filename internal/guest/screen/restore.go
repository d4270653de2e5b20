package screen

import (
	"fmt"
	"unicode/utf8"
)

// Restore returns the bytes that make a terminal of the same size look and
// behave like this one. With history they write the lines above the screen
// first, so that they end up in the terminal's own scrollback; a terminal that
// has merely missed something gets none.
func (s *Screen) Restore(history bool) []byte {
	// CAN ends a sequence that was cut. Then to a known state: main screen, no margins, no origin or insert mode, and
	// no wrapping, so that a full line does not make an empty one.
	b := []byte("\x18\x1b[?1049l\x1b[?2026l\x1b[r\x1b[?6l\x1b[4l\x1b[?7l\x1b[20l\x1b(B\x1b)B\x0f\x1b[?25l\x1b[0m\x1b[H\x1b[2J")
	if history {
		first := max(0, len(s.history)-s.maxHistory)
		for _, line := range s.history[first:] {
			b = append(s.paintLine(b, line), "\r\n"...)
		}
	}
	b = s.paintPage(b, &s.main)
	if s.alt {
		// 1049 saves the cursor that leaving the alternate screen restores.
		b = s.paintCursor(b, s.main.saved)
		b = append(b, "\x1b[?1049h\x1b[0m\x1b[H\x1b[2J"...)
		b = s.paintPage(b, &s.other)
	}
	b = s.paintCursor(b, s.page.saved)
	b = append(b, "\x1b7\x1b(B\x1b)B\x0f"...)
	b = s.paintModes(b)
	b = s.paintLast(b)
	// The rest of it comes with the next output.
	return append(b, s.parser.pending...)
}

func (s *Screen) paintPage(b []byte, p *page) []byte {
	for y, line := range p.lines {
		if y > 0 {
			b = append(b, "\r\n"...)
		}
		b = s.paintLine(b, line)
	}
	return b
}

// paintLine appends the text of a line, which ends in the default style.
func (s *Screen) paintLine(b []byte, line []cell) []byte {
	end := len(line)
	for end > 0 && line[end-1] == (cell{}) {
		end--
	}
	var st style
	for x := 0; x < min(end, s.w); x++ {
		c := line[x]
		if c.char == -1 {
			continue
		}
		if c.style != st {
			st = c.style
			b = st.sgr(b)
		}
		if c.char == 0 || x+int(c.width) > s.w {
			b = append(b, ' ')
			continue
		}
		b = utf8.AppendRune(b, c.char)
		b = append(b, c.combining...)
	}
	if st != (style{}) {
		b = append(b, "\x1b[0m"...)
	}
	return b
}

// paintCursor places the cursor with its pen and character sets.
func (s *Screen) paintCursor(b []byte, c cursor) []byte {
	b = fmt.Appendf(b, "\x1b[%d;%dH", c.y+1, c.x+1)
	b = c.pen.sgr(b)
	for i, graphic := range c.graphic {
		if graphic {
			b = append(b, 0x1b, "()"[i], '0')
		}
	}
	if c.shift == 1 {
		b = append(b, 0x0e)
	}
	return b
}

func (s *Screen) paintModes(b []byte) []byte {
	for _, m := range trackedModes {
		b = appendMode(b, m, s.modes[m])
	}
	if s.keypad {
		b = append(b, "\x1b="...)
	} else {
		b = append(b, "\x1b>"...)
	}
	if s.otherKeys > 0 {
		b = fmt.Appendf(b, "\x1b[>4;%dm", s.otherKeys)
	}
	for i := range s.keyboard {
		if s.alt == (i == 1) && len(s.keyboard[i]) > 0 {
			b = fmt.Appendf(b, "\x1b[=%d;1u", top(s.keyboard[i]))
		}
	}
	if s.newline {
		b = append(b, "\x1b[20h"...)
	}
	if s.title != "" {
		b = append(append(append(b, "\x1b]2;"...), s.title...), 0x1b, '\\')
	}
	if s.cursorStyle != 0 {
		b = fmt.Appendf(b, "\x1b[%d q", s.cursorStyle)
	}
	return b
}

func appendMode(b []byte, mode int, on bool) []byte {
	final := byte('l')
	if on {
		final = 'h'
	}
	return append(fmt.Appendf(b, "\x1b[?%d", mode), final)
}

// paintLast sets margins, the cursor and what else would disturb the painting.
func (s *Screen) paintLast(b []byte) []byte {
	if s.top != 0 || s.bottom != s.h {
		b = fmt.Appendf(b, "\x1b[%d;%dr", s.top+1, s.bottom)
	}
	c := s.cur
	if c.wrap {
		b = s.paintWrap(b)
	} else {
		b = s.paintCursor(b, c)
	}
	if !s.noWrap && !c.wrap {
		b = appendMode(b, 7, true)
	}
	if c.origin {
		// Origin mode moves the cursor, so it is placed again.
		b = fmt.Appendf(appendMode(b, 6, true), "\x1b[%d;%dH", c.y-s.top+1, c.x+1)
	}
	if s.insert {
		b = append(b, "\x1b[4h"...)
	}
	return appendMode(b, 25, !s.hidden)
}

// paintWrap leaves the terminal about to wrap, by writing the last character
// of the line again.
func (s *Screen) paintWrap(b []byte) []byte {
	c := s.cur
	line := s.page.lines[c.y]
	x := s.w - 1
	if x > 0 && line[x].char == -1 {
		x--
	}
	at := c
	at.x, at.graphic, at.shift = x, [2]bool{}, 0
	b = s.paintCursor(appendMode(b, 7, true), at)
	b = line[x].style.sgr(b)
	if line[x].char > 0 {
		b = append(utf8.AppendRune(b, line[x].char), line[x].combining...)
	} else {
		b = append(b, ' ')
	}
	b = c.pen.sgr(b)
	for i, graphic := range c.graphic {
		if graphic {
			b = append(b, 0x1b, "()"[i], '0')
		}
	}
	if c.shift == 1 {
		b = append(b, 0x0e)
	}
	return b
}
