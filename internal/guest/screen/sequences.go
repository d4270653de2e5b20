package screen

import (
	"fmt"
	"strings"
)

// control executes a C0 control.
func (s *Screen) control(b byte) {
	switch b {
	case '\b':
		s.moveBy(-1, 0)
	case '\t':
		s.moveBy(8-s.cur.x%8, 0)
	case '\n', '\v', '\f':
		s.index()
		s.cur.wrap = false
		if s.newline {
			s.cur.x = 0
		}
	case '\r':
		s.cur.x, s.cur.wrap = 0, false
	case 0x0e:
		s.cur.shift = 1
	case 0x0f:
		s.cur.shift = 0
	}
}

// esc executes ESC and a final byte.
func (s *Screen) esc(b byte) {
	switch b {
	case '7':
		s.page.saved = s.cur
	case '8':
		s.restoreCursor()
	case 'D', 'E':
		s.index()
		s.cur.wrap = false
		if b == 'E' {
			s.cur.x = 0
		}
	case 'M':
		s.reverseIndex()
		s.cur.wrap = false
	case 'c':
		s.reset()
		s.title = ""
	case '=':
		s.keypad = true
	case '>':
		s.keypad = false
	}
}

func (s *Screen) restoreCursor() {
	s.cur = s.page.saved
	s.cur.x, s.cur.y = min(s.cur.x, s.w-1), min(s.cur.y, s.h-1)
}

// designate handles ESC ( 0 and its like, and ESC # 8.
func (s *Screen) designate(inter, final byte) {
	switch {
	case inter == '(' || inter == ')':
		s.cur.graphic[inter-'('] = final == '0'
	case inter == '#' && final == '8':
		for y := range s.h {
			for x := range s.w {
				s.page.lines[y][x] = cell{char: 'E', width: 1}
			}
		}
	}
}

// osc keeps the title; all else is for the real terminal.
func (s *Screen) osc(text string) {
	kind, value, ok := strings.Cut(text, ";")
	if !ok || kind != "0" && kind != "2" {
		return
	}
	value = strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0xfffd {
			return -1
		}
		return r
	}, value)
	s.title = value[:min(len(value), maxTitle)]
}

func (s *Screen) csi(final byte) {
	p := &s.parser
	switch {
	case p.private == 0 && p.inter == 0:
		if !s.csiMove(final) && !s.csiEdit(final) {
			s.csiMode(final)
		}
	case p.private == '?' && p.inter == 0 && (final == 'h' || final == 'l'):
		for i := range p.nparams {
			s.setMode(p.params[i].value, final == 'h')
		}
	case final == 'u':
		s.keyboardFlags(p.private)
	case p.private == '>' && final == 'm' && p.num(0, 0) == 4:
		s.otherKeys = clamp(p.num(1, 0), 0, 3)
	case p.inter == ' ' && final == 'q':
		s.cursorStyle = clamp(p.num(0, 0), 0, 6)
	case p.inter == '!' && final == 'p':
		s.softReset()
	default:
		s.query(final)
	}
}

func (s *Screen) softReset() {
	s.hidden, s.insert, s.noWrap, s.keypad = false, false, false, false
	s.top, s.bottom = 0, s.h
	s.cur = cursor{x: s.cur.x, y: s.cur.y}
	s.page.saved = cursor{}
	delete(s.modes, 1)
}

func (s *Screen) csiMove(final byte) bool {
	p := &s.parser
	n := p.num(0, 1)
	y := s.cur.y
	if s.cur.origin {
		y -= s.top
	}
	switch final {
	case 'A':
		s.moveBy(0, -n)
	case 'B', 'e':
		s.moveBy(0, n)
	case 'C', 'a':
		s.moveBy(n, 0)
	case 'D':
		s.moveBy(-n, 0)
	case 'E':
		s.moveBy(-s.cur.x, n)
	case 'F':
		s.moveBy(-s.cur.x, -n)
	case 'G', '`':
		s.moveTo(n-1, y)
	case 'H', 'f':
		s.moveTo(p.num(1, 1)-1, n-1)
	case 'd':
		s.moveTo(s.cur.x, n-1)
	case 'I':
		s.moveBy(8*min(n, s.w)-s.cur.x%8, 0)
	case 'Z':
		s.moveBy(-((s.cur.x-1)%8+1)-8*min(n-1, s.w), 0)
	case 's':
		s.page.saved = s.cur
	case 'u':
		s.restoreCursor()
	default:
		return false
	}
	return true
}

func (s *Screen) csiEdit(final byte) bool {
	p := &s.parser
	n := p.num(0, 1)
	switch final {
	case '@':
		s.insertCells(n)
	case 'P':
		s.deleteCells(n)
	case 'X':
		s.erase(s.cur.y, s.cur.x, s.cur.x+min(n, s.w))
	case 'L', 'M':
		if s.cur.y < s.top || s.cur.y >= s.bottom {
			return true
		}
		if s.cur.x, s.cur.wrap = 0, false; final == 'L' {
			s.scrollDown(s.cur.y, n)
		} else {
			s.rotateUp(s.page.lines[s.cur.y:s.bottom], n)
		}
		return true
	case 'S':
		s.scrollUp(s.top, n)
	case 'T':
		s.scrollDown(s.top, n)
	case 'J':
		s.eraseDisplay(p.num(0, 0))
	case 'K':
		s.eraseLine(p.num(0, 0))
	case 'b':
		for range min(n, s.w) { // no honest program repeats more at once
			if s.last > 0 {
				s.print(s.last)
			}
		}
		return true
	default:
		return false
	}
	s.cur.wrap = false
	return true
}

func (s *Screen) eraseDisplay(kind int) {
	from, to := 0, s.h
	switch kind {
	case 0:
		s.eraseLine(0)
		from = s.cur.y + 1
	case 1:
		s.eraseLine(1)
		to = s.cur.y
	case 2:
	case 3:
		s.history = nil
		return
	}
	for y := from; y < to; y++ {
		s.erase(y, 0, s.w)
	}
}

func (s *Screen) eraseLine(kind int) {
	switch kind {
	case 0:
		s.erase(s.cur.y, s.cur.x, s.w)
	case 1:
		s.erase(s.cur.y, 0, s.cur.x+1)
	case 2:
		s.erase(s.cur.y, 0, s.w)
	}
}

// csiMode handles what sets a state without a private marker, and questions.
func (s *Screen) csiMode(final byte) {
	p := &s.parser
	switch final {
	case 'm':
		s.cur.pen.apply(p.params[:p.nparams])
	case 'r':
		top, bottom := p.num(0, 1)-1, min(p.num(1, s.h), s.h)
		if top+1 < bottom {
			s.top, s.bottom = top, bottom
			s.moveTo(0, 0)
		}
	case 'h', 'l':
		for i := range p.nparams {
			switch p.params[i].value {
			case 4:
				s.insert = final == 'h'
			case 20:
				s.newline = final == 'h'
			}
		}
	default:
		s.query(final)
	}
}

// trackedModes are the private modes without an effect on the picture; a
// terminal that is restored gets those that are set and loses the others. All
// are off by default; modes that some terminals begin with are left alone.
var trackedModes = []int{1, 5, 9, 45, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2031, 2048}

func (s *Screen) setMode(mode int, on bool) {
	switch mode {
	case 6:
		s.cur.origin = on
		s.moveTo(0, 0)
	case 7:
		s.noWrap = !on
	case 25:
		s.hidden = !on
	case 66:
		s.keypad = on
	case 47, 1047:
		if !on && s.alt && mode == 1047 {
			s.clearPage()
		}
		s.showAlt(on)
	case 1048:
		if on {
			s.page.saved = s.cur
		} else {
			s.restoreCursor()
		}
	case 1049:
		s.altWithCursor(on)
	default:
		for _, m := range trackedModes {
			if m == mode && on {
				s.modes[m] = true
			} else if m == mode {
				delete(s.modes, m)
			}
		}
	}
}

func (s *Screen) altWithCursor(on bool) {
	switch {
	case on && !s.alt:
		s.main.saved = s.cur
		s.showAlt(true)
		s.clearPage()
	case !on && s.alt:
		s.showAlt(false)
		s.restoreCursor()
	}
}

// keyboardFlags follows kitty's keyboard protocol ("progressive enhancement").
func (s *Screen) keyboardFlags(private byte) {
	p := &s.parser
	stack := &s.keyboard[0]
	if s.alt {
		stack = &s.keyboard[1]
	}
	const maxStack = 16
	flags := p.num(0, 0) & 31
	switch private {
	case '>':
		if len(*stack) == maxStack {
			*stack = append((*stack)[:0], (*stack)[1:]...)
		}
		*stack = append(*stack, flags)
	case '<':
		*stack = (*stack)[:max(0, len(*stack)-p.num(0, 1))]
	case '=':
		if len(*stack) == 0 {
			*stack = append(*stack, 0)
		}
		top := &(*stack)[len(*stack)-1]
		switch p.num(1, 1) {
		case 1:
			*top = flags
		case 2:
			*top |= flags
		case 3:
			*top &^= flags
		}
	case '?':
		s.answer("\x1b[?%du", top(*stack))
	}
}

func top(stack []int) int {
	if len(stack) == 0 {
		return 0
	}
	return stack[len(stack)-1]
}

// query answers the questions that programs wait for an answer to.
func (s *Screen) query(final byte) {
	p := &s.parser
	row := s.cur.y + 1
	if s.cur.origin {
		row -= s.top
	}
	switch {
	case final == 'c' && p.private == 0 && p.num(0, 0) == 0:
		s.answer("\x1b[?62;22c") // a VT220 with colours
	case final == 'c' && p.private == '>':
		s.answer("\x1b[>1;10;0c")
	case final == 'n' && p.num(0, 0) == 5:
		s.answer("\x1b[0n")
	case final == 'n' && p.num(0, 0) == 6 && p.private == 0:
		s.answer("\x1b[%d;%dR", row, s.cur.x+1)
	case final == 'n' && p.num(0, 0) == 6 && p.private == '?':
		s.answer("\x1b[?%d;%dR", row, s.cur.x+1)
	case final == 'p' && p.inter == '$' && p.private == '?':
		s.answer("\x1b[?%d;0$y", p.num(0, 0)) // "not recognized": safe for all
	}
}

func (s *Screen) answer(format string, args ...any) {
	if s.Reply != nil {
		s.Reply(fmt.Appendf(nil, format, args...))
	}
}
