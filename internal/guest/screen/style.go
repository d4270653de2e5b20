package screen

import "strconv"

// Attributes, by their SGR number; the order is that of Restore.
const (
	bold = 1 << iota
	faint
	italic
	underlined
	doubleUnderlined
	curlyUnderlined
	blink
	reverse
	conceal
	crossed
	overlined
)

var attrCodes = []string{"1", "2", "3", "4", "4:2", "4:3", "5", "7", "8", "9", "53"}

const anyUnderline = underlined | doubleUnderlined | curlyUnderlined

// apply executes SGR (ECMA-48 8.3.117, with xterm's colours).
func (st *style) apply(params []param) {
	if len(params) == 0 {
		*st = style{}
	}
	for i := 0; i < len(params); i++ {
		p := max(params[i].value, 0)
		sub := i + 1
		for sub < len(params) && params[sub].sub {
			sub++
		}
		subs := params[i+1 : sub]
		switch {
		case p == 38 || p == 48 || p == 58:
			c, used := parseColor(subs, params[sub:])
			i += used
			st.setColor(p, c)
		case p == 4 && len(subs) > 0:
			st.underlineStyle(subs[0].value)
		default:
			st.code(p)
		}
		i += len(subs)
	}
}

func (st *style) underlineStyle(kind int) {
	st.attrs &^= anyUnderline
	switch kind {
	case 0:
	case 2:
		st.attrs |= doubleUnderlined
	case 3, 4, 5:
		st.attrs |= curlyUnderlined
	default:
		st.attrs |= underlined
	}
}

func (st *style) setColor(which int, c color) {
	switch which {
	case 38:
		st.fg = c
	case 48:
		st.bg = c
	case 58:
		st.underline = c
	}
}

// parseColor reads a colour from subparameters (38:2::r:g:b) or from the
// parameters that follow (38;2;r;g;b); used counts the latter.
func parseColor(subs, rest []param) (c color, used int) {
	list := subs
	if len(subs) == 0 {
		list = rest
	}
	v := func(i int) color {
		if i >= len(list) {
			return 0
		}
		return color(clamp(list[i].value, 0, 255))
	}
	if len(list) == 0 {
		return 0, 0
	}
	switch list[0].value {
	case 5:
		c, used = indexed|v(1), min(2, len(list))
	case 2:
		first := 1
		if len(subs) >= 5 { // with the colour space
			first = 2
		}
		c, used = rgb|v(first)<<16|v(first+1)<<8|v(first+2), min(4, len(list))
	}
	if len(subs) > 0 {
		used = 0
	}
	return c, used
}

var setAttrs = map[int]uint16{1: bold, 2: faint, 3: italic, 5: blink, 6: blink, 7: reverse, 8: conceal, 9: crossed, 53: overlined}
var clearAttrs = map[int]uint16{22: bold | faint, 23: italic, 24: anyUnderline, 25: blink, 27: reverse, 28: conceal, 29: crossed, 55: overlined}

func (st *style) code(p int) {
	switch {
	case p == 0:
		*st = style{}
	case p == 4:
		st.underlineStyle(1)
	case p == 21:
		st.underlineStyle(2)
	case p >= 30 && p <= 37:
		st.fg = indexed | color(p-30)
	case p == 39:
		st.fg = 0
	case p >= 40 && p <= 47:
		st.bg = indexed | color(p-40)
	case p == 49:
		st.bg = 0
	case p == 59:
		st.underline = 0
	case p >= 90 && p <= 97:
		st.fg = indexed | color(p-90+8)
	case p >= 100 && p <= 107:
		st.bg = indexed | color(p-100+8)
	default:
		st.attrs = st.attrs&^clearAttrs[p] | setAttrs[p]
	}
}

// sgr appends the sequence that sets exactly this style.
func (st style) sgr(b []byte) []byte {
	b = append(b, "\x1b[0"...)
	for i, code := range attrCodes {
		if st.attrs&(1<<i) != 0 {
			b = append(append(b, ';'), code...)
		}
	}
	b = appendColor(b, st.fg, 38)
	b = appendColor(b, st.bg, 48)
	b = appendColor(b, st.underline, 58)
	return append(b, 'm')
}

func appendColor(b []byte, c color, code int64) []byte {
	v := int64(c & 0xffffff)
	num := func(n int64) { b = strconv.AppendInt(append(b, ';'), n, 10) }
	switch {
	case c == 0:
	case c&rgb == 0 && code != 58 && v < 8:
		num(code - 8 + v)
	case c&rgb == 0 && code != 58 && v < 16:
		num(code - 8 + 60 + v - 8)
	case c&rgb == 0:
		num(code)
		num(5)
		num(v)
	default:
		num(code)
		num(2)
		num(v >> 16)
		num(v >> 8 & 255)
		num(v & 255)
	}
	return b
}
