package screen

import "unicode/utf8"

// maxString bounds the strings of OSC and DCS that are looked at; what is
// longer is skipped.
const maxString = 4096

type parserState uint8

const (
	ground parserState = iota
	escape
	escapeInter
	csi
	csiIgnore
	text     // OSC
	textSkip // DCS, APC, PM, SOS
)

// parser cuts a stream into characters and control sequences (ECMA-48, and
// the state machine at vt100.net/emu/dec_ansi_parser).
type parser struct {
	state   parserState
	utf8    [utf8.UTFMax]byte
	utf8Len int
	params  [32]param
	nparams int
	private byte // '?', '>', '<', '=' or 0
	inter   byte
	str     []byte
	sawEsc  bool   // ESC within a string
	pending []byte // the sequence or character that is not complete
}

// param is a number of a CSI; sub: it followed a colon.
type param struct {
	value int // -1: not given
	sub   bool
}

const maxParam = 65535

// Write takes output of the program. It never fails.
func (s *Screen) Write(p []byte) (int, error) {
	for _, b := range p {
		s.step(b)
		s.parser.keep(b)
	}
	return len(p), nil
}

// keep maintains pending after the step for b.
func (p *parser) keep(b byte) {
	inString := p.state == text || p.state == textSkip
	switch {
	case p.state == ground:
		p.pending = append(p.pending[:0], p.utf8[:p.utf8Len]...)
	case !inString && b == 0x1b:
		p.pending = append(p.pending[:0], b)
	case !inString && (b < 0x20 || b == 0x7f):
		// Executed, although within a sequence.
	case len(p.pending) < maxString:
		p.pending = append(p.pending, b)
	}
}

func (s *Screen) step(b byte) {
	ps := &s.parser
	switch ps.state {
	case text, textSkip:
		s.inString(b)
		return
	case ground:
		if b >= 0x20 && b != 0x7f {
			s.char(b)
			return
		}
	}
	ps.utf8Len = 0
	switch {
	case b == 0x1b:
		ps.state, ps.inter, ps.private, ps.nparams = escape, 0, 0, 0
	case b == 0x18 || b == 0x1a: // CAN, SUB
		ps.state = ground
	case b < 0x20:
		s.control(b)
	case b == 0x7f:
	case ps.state == escape || ps.state == escapeInter:
		s.inEscape(b)
	case ps.state == csi || ps.state == csiIgnore:
		s.inCSI(b)
	}
}

// char collects UTF-8.
func (s *Screen) char(b byte) {
	ps := &s.parser
	if ps.utf8Len == 0 && b < utf8.RuneSelf {
		s.print(rune(b))
		return
	}
	if ps.utf8Len > 0 && utf8.RuneStart(b) {
		// The one before is incomplete.
		ps.utf8Len = 0
		s.print(utf8.RuneError)
		s.char(b)
		return
	}
	ps.utf8[ps.utf8Len] = b
	ps.utf8Len++
	got := ps.utf8[:ps.utf8Len]
	if !utf8.FullRune(got) {
		return
	}
	r, _ := utf8.DecodeRune(got)
	ps.utf8Len = 0
	if r < 0xa0 && r >= 0x80 {
		return // C1 controls: not in UTF-8, and of no width
	}
	s.print(r)
}

func (s *Screen) inString(b byte) {
	ps := &s.parser
	switch {
	case ps.sawEsc:
		ps.sawEsc = false
		s.endString()
		if b != '\\' { // another sequence has begun
			ps.state, ps.inter, ps.private, ps.nparams = escape, 0, 0, 0
			ps.pending = append(ps.pending[:0], 0x1b)
			s.step(b)
		}
	case b == 0x1b:
		ps.sawEsc = true
	case b == 0x18 || b == 0x1a:
		ps.state, ps.str = ground, ps.str[:0]
	case b == 0x07 && ps.state == text:
		s.endString()
	case ps.state == text && len(ps.str) < maxString:
		ps.str = append(ps.str, b)
	default:
		ps.state = textSkip
	}
}

func (s *Screen) endString() {
	ps := &s.parser
	if ps.state == text {
		s.osc(string(ps.str))
	}
	ps.state, ps.str = ground, ps.str[:0]
}

func (s *Screen) inEscape(b byte) {
	ps := &s.parser
	if b < 0x30 { // 0x20 to 0x2f: intermediate
		ps.state, ps.inter = escapeInter, b
		return
	}
	ps.state = ground
	switch {
	case ps.inter != 0:
		s.designate(ps.inter, b)
	case b == '[':
		ps.state = csi
	case b == ']':
		ps.state, ps.str, ps.sawEsc = text, ps.str[:0], false
	case b == 'P' || b == 'X' || b == '^' || b == '_':
		ps.state, ps.sawEsc = textSkip, false
	default:
		s.esc(b)
	}
}

func (s *Screen) inCSI(b byte) {
	ps := &s.parser
	switch {
	case b >= 0x40:
		ok := ps.state == csi
		ps.state = ground
		if ok {
			s.csi(b)
		}
	case b >= '0' && b <= '9':
		if ps.nparams == 0 {
			ps.push(false)
		}
		if ps.nparams <= len(ps.params) {
			p := &ps.params[ps.nparams-1]
			p.value = min(max(p.value, 0)*10+int(b-'0'), maxParam)
		}
	case b == ';' || b == ':':
		if ps.nparams == 0 {
			ps.push(false)
		}
		ps.push(b == ':')
	case b >= 0x3c && b <= 0x3f && ps.nparams == 0 && ps.private == 0:
		ps.private = b
	case b < 0x30:
		ps.inter = b
	default:
		ps.state = csiIgnore
	}
	if ps.nparams > len(ps.params) {
		ps.state = csiIgnore
		ps.nparams = len(ps.params)
	}
}

func (p *parser) push(sub bool) {
	if p.nparams < len(p.params) {
		p.params[p.nparams] = param{-1, sub}
	}
	p.nparams++
}

// num returns the parameter i, or fallback if it is missing or zero.
func (p *parser) num(i, fallback int) int {
	if i >= p.nparams || p.params[i].value <= 0 {
		return fallback
	}
	return p.params[i].value
}
