package screen

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/charmbracelet/x/vt"
)

// text is what the shown page says, without blanks at the end.
func (s *Screen) text() string {
	var b strings.Builder
	for _, line := range s.page.lines {
		b.WriteString(strings.TrimRight(lineText(line), " ") + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

func lineText(line []cell) string {
	var b strings.Builder
	for _, c := range line {
		switch {
		case c.char == 0:
			b.WriteByte(' ')
		case c.char > 0:
			b.WriteString(string(c.char) + c.combining)
		}
	}
	return b.String()
}

func write(w, h int, text string) *Screen {
	s := New(w, h, 100)
	s.Write([]byte(text))
	return s
}

// sequences are outputs of programs on a terminal of 20 by 5, and what it
// shows then.
var sequences = []struct{ name, in, want string }{
	{"plain", "hello\r\nworld", "hello\nworld"},
	{"wrap", strings.Repeat("x", 25), strings.Repeat("x", 20) + "\nxxxxx"},
	{"no wrap until the next character", strings.Repeat("x", 20) + "\r\ny", strings.Repeat("x", 20) + "\ny"},
	{"no autowrap", "\x1b[?7l" + strings.Repeat("x", 25) + "y", strings.Repeat("x", 19) + "y"},
	{"scroll", "1\r\n2\r\n3\r\n4\r\n5\r\n6", "2\n3\n4\n5\n6"},
	{"margins", "\x1b[2;3r1\x1b[2;1Ha\r\nb\r\nc", "1\nb\nc"},
	{"reverse index", "1\r\n2\x1b[H\x1bM0", "0\n1\n2"},
	{"erase", "abcdef\x1b[3D\x1b[K", "abc"},
	{"erase display", "a\r\nb\r\nc\x1b[2;1H\x1b[J", "a"},
	{"insert and delete characters", "abcdef\x1b[1;3H\x1b[2@\x1b[1;7H\x1b[P", "ab  cdf"},
	{"insert and delete lines", "1\r\n2\r\n3\x1b[2H\x1b[L\x1b[1H\x1b[M", "\n2\n3"},
	{"insert mode", "abc\r\x1b[4hX", "Xabc"},
	{"tabs", "a\tb\tc", "a       b       c"},
	{"wide", "日本語", "日本語"},
	{"wide that does not fit", strings.Repeat("x", 19) + "日", strings.Repeat("x", 19) + "\n日"},
	{"half a wide character overwritten", "日本\x1b[1;2Hx", " x本"},
	{"combining", "e\u0301x", "e\u0301x"},
	{"line drawing", "\x1b(0lqk\x1b(Bq", "┌─┐q"},
	{"alternate screen", "main\x1b[?1049halt", "    alt"},
	{"back from the alternate screen", "main\x1b[?1049halt\x1b[?1049l!", "main!"},
	{"saved cursor", "ab\x1b7cd\x1b8X", "abXd"},
	{"origin mode", "\x1b[2;4r\x1b[?6h\x1b[1;1Hx", "\nx"},
	{"repeat", "a\x1b[3b", "aaaa"},
	{"title is not shown", "\x1b]0;title\x07x\x1b]2;a\x1b\\y", "xy"},
	{"strings are not shown", "\x1bPq#0\x1b\\a\x1b_Gx\x1b\\b", "ab"},
	{"broken UTF-8", "a\xe6\x97b\xffc", "a\ufffdb\ufffdc"},
	{"cancelled", "\x1b[12\x18a", "a"},
	{"long parameters", "\x1b[99999999999999999999C\x1b[99999Hx", "\n\n\n\nx"},
}

func TestSequences(t *testing.T) {
	for _, tt := range sequences {
		if got := write(20, 5, tt.in).text(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// states are outputs that leave a state behind which a restore must bring.
var states = []string{
	"\x1b[1;38;5;200;48;2;1;2;3mcolours\x1b[0;4:3;58;5;9mcurly\x1b[91;103mbright",
	"main\r\nscreen\x1b[31m\x1b[?1049h\x1b[2;3Halt\x1b[?25l\x1b[4 q",
	"\x1b[2;4r\x1b[3;1Hregion",
	"\x1b[2;4r\x1b[?6h\x1b[2;2Horigin",
	"\x1b[?1h\x1b=\x1b[?2004h\x1b[?1002h\x1b[?1006h\x1b[?1004hmodes",
	strings.Repeat("w", 20),
	"日本語日本語日本語日",
	"\x1b[5;3H\x1b[32m\x1b7\x1b[H\x1b[mx",
	"\x1b(0lqk",
	"a\x1b[4hb\x1b[D",
	"\x1b[?7lno wrap",
	"\x1b[>1u\x1b[>5ukitty\x1b[>4;2m",
	"\x1b[44m\x1b[2Jbackground\x1b[K",
	"\x1b]2;a title\x07",
	"1\r\n2\r\n3\r\n4\r\n5\r\n6\r\n7",
	"half a sequence \x1b[3",
	"half a character \xe6\x97",
}

// comparable is the state without what only matters inside.
func comparable(s *Screen) Screen {
	c := *s
	c.page, c.Reply, c.last, c.parser = nil, nil, 0, parser{}
	c.history = nil
	for i, stack := range s.keyboard {
		c.keyboard[i] = nil
		if top(stack) != 0 && s.alt == (i == 1) {
			c.keyboard[i] = []int{top(stack)}
		}
	}
	c.main.lines = painted(s.main.lines)
	c.other.lines = painted(s.other.lines)
	if !s.alt {
		c.other = page{} // hidden, and cleared before it is shown
	}
	return c
}

// painted copies lines with blanks as what they are painted with, spaces.
func painted(lines [][]cell) [][]cell {
	copied := make([][]cell, len(lines))
	for y, line := range lines {
		copied[y] = append([]cell(nil), line...)
		for x := range copied[y] {
			if c := &copied[y][x]; c.char == 0 {
				c.char, c.width = ' ', 1
			}
		}
	}
	return copied
}

func TestRestoreBringsTheSameState(t *testing.T) {
	for _, in := range states {
		s := write(20, 5, in)
		for _, before := range []string{"", "junk\x1b[?1049hmore\x1b[2;3r\x1b[?6h\x1b[4h\x1b(0\x1b[1m\x1b[?2004h\x1b="} {
			copied := write(20, 5, before)
			copied.Write(s.Restore(false))
			got, want := comparable(copied), comparable(s)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q after %q:\n got %+v\nwant %+v\n via %q", in, before, got, want, s.Restore(false))
			}
		}
	}
}

func TestRestoreWritesTheHistory(t *testing.T) {
	var b strings.Builder
	for i := range 30 {
		fmt.Fprintf(&b, "line %d\r\n", i)
	}
	s := write(20, 5, b.String())
	copied := New(20, 5, 100)
	copied.Write(s.Restore(true))
	if copied.text() != s.text() || len(copied.history) != len(s.history) || lineText(copied.history[0]) != "line 0" {
		t.Errorf("%q with %d lines above", copied.text(), len(copied.history))
	}
	// More than the limit is forgotten.
	s.Write([]byte(strings.Repeat("more\r\n", 1000)))
	if n := bytes.Count(s.Restore(true), []byte("more")); n > 105 {
		t.Errorf("%d lines of history", n)
	}
}

// TestRestoreOnAnotherEmulator makes sure that Restore's idea of a terminal is
// not only its own.
func TestRestoreOnAnotherEmulator(t *testing.T) {
	for _, in := range states[:len(states)-2] {
		s := write(20, 5, in)
		other := vt.NewEmulator(20, 5)
		go func() { // answers, which would block it
			buf := make([]byte, 64)
			for {
				if _, err := other.Read(buf); err != nil {
					return
				}
			}
		}()
		other.Write(s.Restore(true))
		if got := strings.TrimRight(other.String(), " \n"); got != s.text() {
			t.Errorf("%q: %q, want %q", in, got, s.text())
		}
		if pos := other.CursorPosition(); pos.X != s.cur.x || pos.Y != s.cur.y {
			t.Errorf("%q: cursor at %v, want %d,%d", in, pos, s.cur.x, s.cur.y)
		}
		if other.IsAltScreen() != s.alt || other.CursorHidden() != s.hidden {
			t.Errorf("%q: alternate %v, hidden %v", in, other.IsAltScreen(), other.CursorHidden())
		}
		other.Close()
	}
}

func TestAnswers(t *testing.T) {
	for in, want := range map[string]string{
		"\x1b[c":           "\x1b[?62;22c",
		"\x1b[2;3H\x1b[6n": "\x1b[2;3R",
		"\x1b[5n":          "\x1b[0n",
		"\x1b[?u":          "\x1b[?0u",
		"\x1b[?2026$p":     "\x1b[?2026;0$y",
		"\x1b]11;?\x07":    "",
	} {
		var got []byte
		s := New(20, 5, 0)
		s.Reply = func(p []byte) { got = append(got, p...) }
		s.Write([]byte(in))
		if string(got) != want {
			t.Errorf("%q: answered %q, want %q", in, got, want)
		}
	}
}

func TestResize(t *testing.T) {
	s := write(20, 5, "1\r\n2\r\n3\r\n4\r\nlast line")
	s.Resize(6, 3)
	if s.text() != "3\n4\nlast l" || len(s.history) != 2 {
		t.Errorf("%q with %d lines above", s.text(), len(s.history))
	}
	s.Resize(30, 6)
	s.Write([]byte("\r\nmore"))
	if s.text() != "3\n4\nlast l\nmore" {
		t.Errorf("%q", s.text())
	}
}

func FuzzScreen(f *testing.F) {
	for _, tt := range sequences {
		f.Add([]byte(tt.in), uint8(20), uint8(5))
	}
	for _, in := range states {
		f.Add([]byte(in), uint8(1), uint8(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, w, h uint8) {
		s := New(int(w), int(h), 10)
		s.Reply = func([]byte) {}
		s.Write(in[:len(in)/2])
		s.Resize(int(h), int(w))
		s.Write(in[len(in)/2:])
		s.Resize(int(w)+1, int(h)+1)
		copied := New(int(w)+1, int(h)+1, 10)
		copied.Write(s.Restore(true))
		if got, want := copied.cur, s.cur; got.x != want.x || got.y != want.y {
			t.Errorf("cursor at %d,%d, want %d,%d", got.x, got.y, want.x, want.y)
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	s := New(80, 24, 1000)
	in := []byte(strings.Repeat("\x1b[32msome text\x1b[0m of a program, \r\n", 1000))
	b.SetBytes(int64(len(in)))
	for b.Loop() {
		s.Write(in)
	}
}
