package term

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/charmbracelet/x/vt"
)

func filtered(t testing.TB, wrap func(io.Writer) io.Writer, pieces ...string) string {
	t.Helper()
	var b bytes.Buffer
	w := wrap(&b)
	for _, p := range pieces {
		if n, err := io.WriteString(w, p); n != len(p) || err != nil {
			t.Fatalf("wrote %d of %d: %v", n, len(p), err)
		}
	}
	return b.String()
}

func TestFilterLetsDrawingPass(t *testing.T) {
	for name, s := range map[string]string{
		"text":            "plain text\r\n\ttab\a\b",
		"UTF-8":           "größe 漢字 🙂 ✓❌",
		"colours":         "\x1b[1;38;5;208mx\x1b[38:2::1:2:3m\x1b[0m",
		"cursor":          "\x1b[H\x1b[2J\x1b[10;20f\x1b[3A\x1b7\x1b8\x1b[s\x1b[u\x1b[5 q",
		"modes":           "\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1006h\x1b[?2026$p\x1b[?7l\x1b[4h",
		"keyboard":        "\x1b[>1u\x1b[<u\x1b[?u\x1b[=1;1u\x1b[>4;2m",
		"cursor position": "\x1b[6n\x1b[c\x1b[>c",
		"charsets":        "\x1b(0lqqk\x1b(B\x0e\x0f",
		"scrolling":       "\x1b[3;20r\x1bD\x1bM\x1bE\x1b[2S",
		"reset":           "\x1bc\x1b[!p",
		"hyperlink":       "\x1b]8;id=1;https://example.com/\x1b\\text\x1b]8;;\x1b\\",
		"our own reset":   Reset,
	} {
		if got := filtered(t, Filter, s); got != s {
			t.Errorf("%s: %q became %q", name, s, got)
		}
	}
}

func TestFilterDropsAbuse(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"clipboard":            {"a\x1b]52;c;aGk=\ab", "ab"},
		"clipboard, ST":        {"a\x1b]52;c;aGk=\x1b\\b", "ab"},
		"clipboard, odd":       {"a\x1b]052;c;?\x07b", "ab"},
		"clipboard, C1":        {"a\u009d52;c;aGk=\ab", "a52;c;aGk=\ab"},
		"clipboard, raw C1":    {"a\x9d52;c;aGk=\x9cb", "a\uFFFD52;c;aGk=\uFFFDb"},
		"overlong ESC":         {"a\xc0\x9b]52;c;x\ab", "a\uFFFD\uFFFD]52;c;x\ab"},
		"ESC in a character":   {"\xe2\x1b]52;c;x\ab", "\uFFFDb"},
		"nested":               {"\x1b]0;\x1b]52;c;x\a\ab", "\ab"},
		"sequence in string":   {"\x1bPq\x1b[1mb", "\x1b[1mb"},
		"title":                {"\x1b]0;root@host\a\x1b]2;x\x1b\\\x1bktitle\x1b\\b", "b"},
		"window report":        {"\x1b[21t\x1b[18t\x1b[3;1;1tb", "b"},
		"settings report":      {"\x1bP$qm\x1b\\\x1bP+q544e\x1b\\b", "b"},
		"screen checksum":      {"\x1b[1;1;1;1;2;2*yb", "b"},
		"version and answer":   {"\x1b[>q\x1b[>0q\x05\x1bZb", "b"},
		"colours":              {"\x1b]11;?\x1b\\\x1b]4;0;red\ab", "b"},
		"prompt mark":          {"\x1b]133;A\a\x1b]1337;File=:AAAA\ab", "b"},
		"printer":              {"\x1b[5i\x1b[?4ib", "b"},
		"charset":              {"\x1b%@\x1b Gb", "b"},
		"APC, PM, SOS":         {"\x1b_Gx\x1b\\\x1b^x\x1b\\\x1bXx\x1b\\b", "b"},
		"cancelled":            {"\x1b]52;c\x18b\x1b[1\x1amc", "bmc"},
		"control in sequence":  {"\x1b[1\nmb", "\n\x1b[1mb"},
		"local file":           {"\x1b]8;;file:///etc/passwd\x1b\\text\x1b]8;;\x1b\\", "text\x1b]8;;\x1b\\"},
		"script":               {"\x1b]8;;javascript:x\atext", "text"},
		"link with a control":  {"\x1b]8;;https://x/\ny\atext", "text"},
		"too long":             {"\x1b[" + strings.Repeat("1;", maxSequence) + "mb", "b"},
		"link without an end":  {"\x1b]8;;https://" + strings.Repeat("x", 1<<20) + "\ab", "b"},
		"intermediates galore": {"\x1b[1   qb", "b"},
	} {
		if got := filtered(t, Filter, test.in); got != test.want {
			t.Errorf("%s: %q became %q, want %q", name, test.in, got, test.want)
		}
	}
}

func TestPlainText(t *testing.T) {
	in := "one\r\n\ttwo\x1b[31m red\x1b]0;t\a\b\a\x00 \u202etxt\x1b"
	want := "one\n\ttwo red \uFFFDtxt"
	if got := filtered(t, PlainText, in); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "",
		"web-1.2 ok":           "web-1.2 ok",
		"größe ✓":              "größe ✓",
		"a\nb\tc":              "a b c",
		"\x1b[31mred\x1b[0m":   "red",
		"\x1b]52;c;aGk=\aname": "name",
		"\x1b]0;unfinished":    "",
		"\u202egpj.exe":        "\uFFFDgpj.exe",
		"a\x00b\x7f":           "a\uFFFDb\uFFFD",
		"\xff\xfeok\xe2\x82":   "\uFFFD\uFFFDok\uFFFD\uFFFD",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

func TestLinesLetsOnlyColoursAndProgressPass(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"colours":         {"\x1b[1;31mred\x1b[38:2::1:2:3m\x1b[0m\n", "\x1b[1;31mred\x1b[38:2::1:2:3m\x1b[0m\n"},
		"progress":        {"\r50%\x1b[K\x1b[1A\x1b[2J\x1b[3;4H\b\t", "\r50%\x1b[K\x1b[1A\x1b[2J\x1b[3;4H\b\t"},
		"link":            {"\x1b]8;;https://example.com/\x1b\\x", "\x1b]8;;https://example.com/\x1b\\x"},
		"UTF-8":           {"größe 🙂", "größe 🙂"},
		"queries":         {"a\x1b[c\x1b[>c\x1b[=c\x1b[6n\x1b[?6n\x1b[?u\x1b[?2026$pb", "ab"},
		"modes":           {"a\x1b[?1049h\x1b[?25l\x1b[?1000h\x1b[?2004h\x1b[4h\x1b[20h\x1b=b", "ab"},
		"keyboard":        {"a\x1b[>1u\x1b[>4;2mb", "ab"},
		"margins, resets": {"a\x1b[3;20r\x1bc\x1b[!p\x1b#8b", "ab"},
		"charsets":        {"a\x1b(0\x0e\x0fb", "ab"},
		"strings":         {"a\x1b]52;c;aGk=\a\x1bP$qm\x1b\\b\x05", "ab"},
	} {
		if got := filtered(t, Lines, test.in); got != test.want {
			t.Errorf("%s: %q became %q, want %q", name, test.in, got, test.want)
		}
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("gone") }

func TestFilterReportsErrors(t *testing.T) {
	if _, err := Filter(failing{}).Write([]byte("x")); err == nil {
		t.Error("no error")
	}
}

// dangerous finds what no output may hold: strings other than web links, and
// C1 controls.
var dangerous = regexp.MustCompile("\x1b][^8]|\x1b]8[^;]|\x1b[PX^_kZ%]|[\u0080-\u009f]|\x1b\\[[0-9;:<=>?]*[ti]")

func FuzzFilter(f *testing.F) {
	f.Add([]byte("a\x1b]52;c;aGk=\a\x1b[1;2m\u009d52\x9d\xe2\x82\xac"), 3)
	f.Add([]byte("\x1bPq\x1b]8;;https://x\x1b\\\x1b[?25l\xc0\x9b]\x18"), 1)
	f.Fuzz(func(t *testing.T, in []byte, cut int) {
		whole := filtered(t, Filter, string(in))
		cut = max(0, min(cut, len(in)))
		if parts := filtered(t, Filter, string(in[:cut]), string(in[cut:])); parts != whole {
			t.Fatalf("%q cut at %d: %q, whole: %q", in, cut, parts, whole)
		}
		bytewise := strings.Split(string(in), "")
		if utf8.Valid(in) && filtered(t, Filter, bytewise...) != whole {
			t.Fatalf("%q differs when split", in)
		}
		if bad := dangerous.FindString(whole); bad != "" || !utf8.ValidString(whole) {
			t.Fatalf("%q let %q pass", in, bad)
		}
		if again := filtered(t, Filter, whole); again != whole {
			t.Fatalf("%q is %q, filtered again %q", in, whole, again)
		}
		text := filtered(t, PlainText, string(in))
		if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r >= 0x7F && r < 0xA0 }) {
			t.Fatalf("%q is not plain: %q", in, text)
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	w := Filter(io.Discard)
	page := []byte(strings.Repeat("\x1b[32mwords of a line of output, größer\x1b[0m\r\n", 1000))
	b.SetBytes(int64(len(page)))
	for b.Loop() {
		w.Write(page)
	}
}

func TestResetLeavesTheCursor(t *testing.T) {
	for _, program := range []string{"line 1\r\nline 2", "line 1\r\nline 2\x1b7\x1b[H\x1b8", "line 1\r\nline 2\x1b[?1049h\x1b[5;5Hvim", "\x1b[2;20r\x1b[2;7H"} {
		e := vt.NewEmulator(80, 24)
		e.Write([]byte(program + Reset + "|"))
		if at := e.CursorPosition(); at.Y != 1 || at.X != 7 {
			t.Errorf("after %q the cursor is at column %d, row %d", program, at.X, at.Y)
		}
	}
}
