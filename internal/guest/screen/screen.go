package screen

import (
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// Limits. A terminal of 1000 by 1000 takes 40 MB.
const (
	maxSize      = 1000
	maxCombining = 32 // bytes of combining characters in one cell
	maxTitle     = 256
)

// cell is one character position. A wide character takes two; the second has
// width 0.
type cell struct {
	char      rune // 0: blank
	combining string
	width     uint8
	style     style
}

type style struct {
	fg, bg, underline color
	attrs             uint16
}

// color is 0 for the default, else a kind and a value.
type color uint32

const (
	indexed color = 1 << 24
	rgb     color = 2 << 24
)

type cursor struct {
	x, y    int
	wrap    bool // the next character goes to the next line
	pen     style
	origin  bool
	graphic [2]bool // G0, G1 are the line drawing set
	shift   int     // which of them is in use
}

// page is one of the two screens, main and alternate.
type page struct {
	lines [][]cell
	saved cursor
}

// Screen is a terminal's state. Call [New].
type Screen struct {
	// Reply, if not nil, is called with answers to the program's questions
	// (device attributes, cursor position).
	Reply func([]byte)

	w, h        int
	main, other page
	alt         bool // other is shown
	page        *page
	cur         cursor
	top, bottom int // margins: top <= y < bottom

	history    [][]cell // oldest first
	maxHistory int

	hidden      bool // cursor
	cursorStyle int
	insert      bool
	newline     bool // LF implies CR
	noWrap      bool
	keypad      bool
	modes       map[int]bool // those of trackedModes that are set
	otherKeys   int
	keyboard    [2][]int // kitty's flags, a stack per page
	title       string

	last   rune // for REP
	parser parser
}

// New returns an empty screen that keeps history lines above it.
func New(w, h, history int) *Screen {
	s := &Screen{w: clamp(w, 1, maxSize), h: clamp(h, 1, maxSize), maxHistory: history}
	s.reset()
	return s
}

func clamp(v, lo, hi int) int { return min(max(v, lo), hi) }

func (s *Screen) reset() {
	s.main, s.other = page{lines: s.blankPage()}, page{lines: s.blankPage()}
	s.page, s.alt = &s.main, false
	s.cur = cursor{}
	s.top, s.bottom = 0, s.h
	s.hidden, s.insert, s.newline, s.noWrap, s.keypad = false, false, false, false, false
	s.cursorStyle, s.otherKeys = 0, 0
	s.modes = map[int]bool{}
	s.keyboard = [2][]int{}
}

func (s *Screen) blankPage() [][]cell {
	lines := make([][]cell, s.h)
	for i := range lines {
		lines[i] = make([]cell, s.w)
	}
	return lines
}

// Size is the present size.
func (s *Screen) Size() (w, h int) { return s.w, s.h }

// Resize changes the size like xterm: lines are cut or extended, not wrapped
// anew; what does not fit above the cursor goes to the history.
func (s *Screen) Resize(w, h int) {
	w, h = clamp(w, 1, maxSize), clamp(h, 1, maxSize)
	if w == s.w && h == s.h {
		return
	}
	if drop := s.cur.y + 1 - h; drop > 0 {
		if !s.alt {
			for _, l := range s.main.lines[:drop] {
				s.remember(l)
			}
		}
		s.page.lines = s.page.lines[drop:]
		s.cur.y -= drop
	}
	for _, p := range []*page{&s.main, &s.other} {
		p.lines = fit(p.lines, w, h)
		p.saved.x, p.saved.y = min(p.saved.x, w-1), min(p.saved.y, h-1)
	}
	s.w, s.h = w, h
	s.top, s.bottom = 0, h
	s.cur.x, s.cur.wrap = min(s.cur.x, w-1), false
}

func fit(lines [][]cell, w, h int) [][]cell {
	fitted := make([][]cell, h)
	for i := range fitted {
		fitted[i] = make([]cell, w)
		if i < len(lines) {
			copy(fitted[i], lines[i])
			cutWide(fitted[i])
		}
	}
	return fitted
}

// cutWide blanks a wide character that lost its second half.
func cutWide(line []cell) {
	if n := len(line); n > 0 && line[n-1].width == 2 {
		line[n-1] = cell{style: line[n-1].style}
	}
}

// remember appends a line to the history without its blank end.
func (s *Screen) remember(line []cell) {
	if s.maxHistory <= 0 {
		return
	}
	n := len(line)
	for n > 0 && line[n-1] == (cell{}) {
		n--
	}
	if len(s.history) >= 2*s.maxHistory {
		// Not one by one: that would move the whole slice for every line.
		s.history = append([][]cell(nil), s.history[len(s.history)-s.maxHistory+1:]...)
	}
	s.history = append(s.history, append([]cell(nil), line[:n]...))
}

func (s *Screen) blank() cell { return cell{style: style{bg: s.cur.pen.bg}} }

// print puts a character at the cursor.
func (s *Screen) print(r rune) {
	width := 1
	if r >= 0x80 {
		width = displaywidth.Rune(r)
	}
	if width <= 0 {
		s.combine(r)
		return
	}
	if s.cur.graphic[s.cur.shift] && r >= 0x5f && r < 0x7f {
		r = lineDrawing[r-0x5f]
	}
	if width > s.w {
		return
	}
	if s.cur.wrap || s.cur.x+width > s.w {
		if s.noWrap {
			s.cur.x = s.w - width
		} else {
			s.cur.x = 0
			s.index()
		}
		s.cur.wrap = false
	}
	if s.insert {
		s.insertCells(width)
	}
	line := s.page.lines[s.cur.y]
	for i := range width {
		s.clearWide(line, s.cur.x+i)
	}
	line[s.cur.x] = cell{char: r, width: uint8(width), style: s.cur.pen}
	if width == 2 {
		line[s.cur.x+1] = cell{style: s.cur.pen, char: -1}
	}
	s.last = r
	if s.cur.x += width; s.cur.x >= s.w {
		s.cur.x = s.w - 1
		s.cur.wrap = !s.noWrap
	}
}

// combine adds a character of no width to the one before the cursor.
func (s *Screen) combine(r rune) {
	line := s.page.lines[s.cur.y]
	x := s.cur.x
	if !s.cur.wrap {
		x--
	}
	if x > 0 && line[x].char == -1 {
		x--
	}
	if x < 0 || line[x].char <= 0 || len(line[x].combining)+utf8.RuneLen(r) > maxCombining {
		return
	}
	line[x].combining += string(r)
}

// clearWide blanks the other half of a wide character that x is a part of.
func (s *Screen) clearWide(line []cell, x int) {
	switch {
	case line[x].char == -1 && x > 0:
		line[x-1] = cell{style: line[x-1].style}
		line[x] = cell{style: line[x].style}
	case line[x].width == 2 && x+1 < len(line):
		line[x+1] = cell{style: line[x+1].style}
		line[x] = cell{style: line[x].style}
	}
}

// index moves down a line, scrolling at the bottom margin.
func (s *Screen) index() {
	switch {
	case s.cur.y == s.bottom-1:
		s.scrollUp(s.top, 1)
	case s.cur.y < s.h-1:
		s.cur.y++
	}
}

func (s *Screen) reverseIndex() {
	switch {
	case s.cur.y == s.top:
		s.scrollDown(s.top, 1)
	case s.cur.y > 0:
		s.cur.y--
	}
}

// scrollUp moves the lines from first to the bottom margin up. What leaves the
// top of the main screen is remembered.
func (s *Screen) scrollUp(first, n int) {
	lines := s.page.lines[first:s.bottom]
	if first == 0 && !s.alt {
		for _, line := range lines[:min(n, len(lines))] {
			s.remember(line)
		}
	}
	s.rotateUp(lines, n)
}

func (s *Screen) rotateUp(lines [][]cell, n int) {
	n = min(n, len(lines))
	freed := append([][]cell(nil), lines[:n]...)
	copy(lines, lines[n:])
	for i, line := range freed {
		lines[len(lines)-n+i] = s.erased(line)
	}
}

func (s *Screen) scrollDown(first, n int) {
	lines := s.page.lines[first:s.bottom]
	n = min(n, len(lines))
	freed := append([][]cell(nil), lines[len(lines)-n:]...)
	copy(lines[n:], lines)
	for i, line := range freed {
		lines[i] = s.erased(line)
	}
}

// erased blanks a line, which must not be in use elsewhere.
func (s *Screen) erased(line []cell) []cell {
	b := s.blank()
	for i := range line {
		line[i] = b
	}
	return line
}

// erase blanks the cells from x up to end in line y.
func (s *Screen) erase(y, x, end int) {
	line := s.page.lines[y]
	end = min(end, s.w)
	if x < end {
		s.clearWide(line, x)
		s.clearWide(line, end-1)
	}
	s.erased(line[min(x, end):end])
}

func (s *Screen) insertCells(n int) {
	line := s.page.lines[s.cur.y]
	s.clearWide(line, s.cur.x)
	rest := line[s.cur.x:]
	n = min(n, len(rest))
	copy(rest[n:], rest)
	s.erased(rest[:n])
	cutWide(line)
}

func (s *Screen) deleteCells(n int) {
	line := s.page.lines[s.cur.y]
	rest := line[s.cur.x:]
	n = min(n, len(rest))
	s.clearWide(line, s.cur.x)
	s.clearWide(line, s.cur.x+n-1)
	copy(rest, rest[n:])
	s.erased(rest[len(rest)-n:])
}

// moveTo places the cursor; y counts from the top margin in origin mode.
func (s *Screen) moveTo(x, y int) {
	lo, hi := 0, s.h
	if s.cur.origin {
		lo, hi = s.top, s.bottom
	}
	s.cur.x, s.cur.y = clamp(x, 0, s.w-1), clamp(lo+y, lo, hi-1)
	s.cur.wrap = false
}

// moveBy moves the cursor; a margin between it and its goal stops it.
func (s *Screen) moveBy(dx, dy int) {
	lo, hi := 0, s.h
	if s.cur.y >= s.top {
		lo = s.top
	}
	if s.cur.y < s.bottom {
		hi = s.bottom
	}
	s.cur.x = clamp(s.cur.x+dx, 0, s.w-1)
	s.cur.y = clamp(s.cur.y+dy, lo, hi-1)
	s.cur.wrap = false
}

// showAlt switches between the pages.
func (s *Screen) showAlt(on bool) {
	if on == s.alt {
		return
	}
	s.alt = on
	if s.page = &s.main; on {
		s.page = &s.other
	}
}

func (s *Screen) clearPage() {
	for y := range s.h {
		s.erase(y, 0, s.w)
	}
}

// lineDrawing is DEC's special graphics set from 0x5f to 0x7e.
var lineDrawing = []rune(" ◆▒␉␌␍␊°±␤␋┘┐┌└┼⎺⎻─⎼⎽├┤┴┬│≤≥π≠£·")
