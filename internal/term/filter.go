package term

import (
	"io"
	"unicode/utf8"
)

const (
	can = 0x18
	sub = 0x1A
	esc = 0x1B
	del = 0x7F
	bel = 0x07
)

// state is where in an escape sequence (ECMA-48 section 5) the output is.
type state byte

const (
	ground       state = iota
	escape             // after ESC, maybe with intermediate bytes
	csi                // control sequence: until a final byte
	oscString          // operating system command: until BEL or ST
	otherString        // DCS, SOS, PM, APC, screen's title: until ST
	stringEscape       // ESC in a string, ST if a backslash follows
)

// maxSequence bounds what is collected of a sequence; longer ones are dropped.
const maxSequence = 2 << 10

// maxBuffer is how much output is gathered before it is written.
const maxBuffer = 32 << 10

// filter takes output apart into control characters, sequences and characters,
// and lets pass what its three rules say.
type filter struct {
	w io.Writer
	// control returns what stands for a control character; nil drops it.
	control func(b byte) []byte
	// sequence reports whether a complete sequence passes; ESC and, for
	// strings, the terminator are not part of it.
	sequence func(s []byte) bool
	// char reports whether a character passes; else U+FFFD does, or nothing
	// if it is a control character.
	char func(r rune) bool

	state  state
	string state  // what stringEscape is in
	seq    []byte // the sequence so far, without ESC
	long   bool   // it was longer than that
	runes  []byte // the beginning of a character
	out    []byte
}

func (f *filter) Write(p []byte) (int, error) {
	for i := 0; i < len(p); {
		n := 0
		if f.state == ground && len(f.runes) == 0 {
			n = printableASCII(p[i:min(len(p), i+maxBuffer)])
		}
		if n > 0 {
			f.out = append(f.out, p[i:i+n]...)
			i += n
		} else {
			f.next(p[i])
			i++
		}
		if len(f.out) >= maxBuffer || i == len(p) {
			if err := f.flush(); err != nil {
				return i, err
			}
		}
	}
	return len(p), nil
}

func (f *filter) flush() error {
	if len(f.out) == 0 {
		return nil
	}
	_, err := f.w.Write(f.out)
	f.out = f.out[:0]
	return err
}

// finish writes what stands for a character that was cut.
func (f *filter) finish() error {
	for range f.runes {
		f.emitRune(utf8.RuneError)
	}
	f.runes = nil
	return f.flush()
}

func printableASCII(p []byte) int {
	for i, b := range p {
		if b < ' ' || b >= del {
			return i
		}
	}
	return len(p)
}

func (f *filter) next(b byte) {
	switch f.state {
	case ground:
		f.ground(b)
	case escape:
		f.escape(b)
	case csi:
		f.csi(b)
	case oscString, otherString:
		f.inString(b)
	case stringEscape:
		if b == '\\' {
			f.end(f.string == oscString)
			return
		}
		// To a terminal ESC has ended the string, without executing it.
		f.start(escape)
		f.escape(b)
	}
}

func (f *filter) ground(b byte) {
	if len(f.runes) > 0 || b >= 0x80 {
		f.utf8(b)
		return
	}
	switch {
	case b == esc:
		f.start(escape)
	case b < ' ' || b == del:
		f.out = append(f.out, f.control(b)...)
	default:
		f.out = append(f.out, b)
	}
}

// utf8 collects a character of several bytes.
func (f *filter) utf8(b byte) {
	f.runes = append(f.runes, b)
	if !utf8.FullRune(f.runes) {
		return
	}
	r, n := utf8.DecodeRune(f.runes)
	if n == len(f.runes) {
		f.runes = f.runes[:0]
		f.emitRune(r)
		return
	}
	// The first byte is none of UTF-8's; the others are three at most.
	var rest [utf8.UTFMax]byte
	n = copy(rest[:], f.runes[1:])
	f.runes = f.runes[:0]
	f.emitRune(utf8.RuneError)
	for _, b := range rest[:n] {
		f.next(b)
	}
}

// emitRune writes a character that is not ASCII. The C1 control characters
// (U+0080 to U+009F) are sequences' beginnings to many terminals.
func (f *filter) emitRune(r rune) {
	switch {
	case r < 0xA0:
		return
	case !f.char(r):
		r = utf8.RuneError
	}
	f.out = utf8.AppendRune(f.out, r)
}

func (f *filter) start(s state) {
	f.state, f.seq, f.long = s, f.seq[:0], false
}

func (f *filter) collect(b byte) {
	if len(f.seq) >= maxSequence {
		f.long = true
		return
	}
	f.seq = append(f.seq, b)
}

// end leaves the sequence, whose last byte was collected if it has one.
func (f *filter) end(complete bool) {
	f.state = ground
	if !complete || f.long || !f.sequence(f.seq) {
		return
	}
	f.out = append(f.out, esc)
	f.out = append(f.out, f.seq...)
	if f.seq[0] == ']' {
		f.out = append(f.out, esc, '\\')
	}
}

func (f *filter) escape(b byte) {
	first := len(f.seq) == 0
	switch {
	case b < ' ' || b >= del:
		f.interrupt(b)
	case b < '0': // intermediate
		f.collect(b)
	case first && b == '[':
		f.collect(b)
		f.state = csi
	case first && b == ']':
		f.collect(b)
		f.state = oscString
	case first && (b == 'P' || b == 'X' || b == '^' || b == '_' || b == 'k'):
		f.state = otherString
	default:
		f.collect(b)
		f.end(true)
	}
}

func (f *filter) csi(b byte) {
	switch {
	case b < ' ' || b >= del:
		f.interrupt(b)
	case b < '@':
		f.collect(b)
	default:
		f.collect(b)
		f.end(true)
	}
}

func (f *filter) inString(b byte) {
	switch {
	case b == esc:
		f.string, f.state = f.state, stringEscape
	case b == can || b == sub:
		f.end(false)
	case b == bel && f.state == oscString:
		f.end(true)
	case f.state == oscString:
		f.collect(b)
	}
}

// interrupt handles a byte that is not part of the sequence that it is in: a
// control character is executed in its midst, others end it.
func (f *filter) interrupt(b byte) {
	switch {
	case b == esc:
		f.start(escape)
	case b == can || b == sub:
		f.end(false)
	case b < ' ':
		f.out = append(f.out, f.control(b)...)
	case b == del: // ignored
	default:
		f.end(false)
		f.ground(b)
	}
}
