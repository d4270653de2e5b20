package term

// state is where in an escape sequence (ECMA-48, section 5) a byte stream is.
type state byte

const (
	ground       state = iota
	escape             // after ESC, maybe intermediate bytes
	csi                // control sequence: parameters until a final byte
	oscString          // operating system command: until BEL, ST
	otherString        // DCS, SOS, PM, APC: until ST
	stringEscape       // ESC inside a string
)

const (
	bel = 0x07
	can = 0x18
	sub = 0x1A
	esc = 0x1B
	del = 0x7F
)

// parser follows a byte stream. C1 controls as single bytes (0x80 to 0x9F) are
// not seen here: in UTF-8 those bytes are parts of characters.
type parser struct {
	state state
	// inner is the state that a string returns to after ESC was no terminator.
	inner state
	// cancelled is set when the last byte ended a sequence without being part
	// of it.
	cancelled bool
}

// next takes one byte.
func (p *parser) next(b byte) {
	p.cancelled = false
	switch p.state {
	case ground:
		if b == esc {
			p.state = escape
		}
	case escape:
		p.afterEscape(b)
	case csi:
		switch {
		case b >= 0x40 && b <= 0x7E:
			p.state = ground
		default:
			p.interrupt(b)
		}
	case oscString, otherString:
		switch {
		case b == esc:
			p.inner, p.state = p.state, stringEscape
		case b == can || b == sub, b == bel && p.state == oscString:
			p.state = ground
		}
	case stringEscape:
		if b == '\\' {
			p.state = ground
			return
		}
		// Terminals differ: to some, ESC has ended the string already.
		p.state = escape
		p.afterEscape(b)
	}
}

func (p *parser) afterEscape(b byte) {
	switch {
	case b == '[':
		p.state = csi
	case b == ']':
		p.state = oscString
	case b == 'P', b == 'X', b == '^', b == '_':
		p.state = otherString
	case b >= 0x20 && b <= 0x2F: // intermediate: one more at least follows
	case b >= 0x30 && b <= 0x7E:
		p.state = ground
	default:
		p.interrupt(b)
	}
}

// interrupt handles a byte that does not belong into a sequence.
func (p *parser) interrupt(b byte) {
	switch {
	case b == esc:
		p.state = escape
	case b == can || b == sub:
		p.state = ground
	case b >= 0x80:
		p.state, p.cancelled = ground, true
	}
}
