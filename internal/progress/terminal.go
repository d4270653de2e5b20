package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"golang.org/x/term"
)

// Intervals between two lines at least: on a terminal the line is rewritten,
// elsewhere each one stays.
const (
	redrawEvery = 100 * time.Millisecond
	repeatEvery = 10 * time.Second
)

// Terminal returns a Func that shows reports on w, and a function to call once
// when the work is over, after the last report.
//
// On a terminal that is one line per stage, rewritten as the work goes on:
// what is done, bytes, rate and time left. Elsewhere a stage is a plain line
// when it begins, and a long one a line again every ten seconds. The
// environment variable NO_COLOR, if not empty, turns colours off.
func Terminal(w io.Writer, isTTY bool) (Func, func()) {
	l := &line{w: w, tty: isTTY, now: time.Now, width: widthOf(w), color: isTTY && os.Getenv("NO_COLOR") == ""}
	return l.report, l.done
}

// widthOf returns a function that asks for the width of w's terminal each
// time, since the user may change it.
func widthOf(w io.Writer) func() int {
	f, ok := w.(*os.File)
	if !ok {
		return func() int { return 80 }
	}
	return func() int {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
		return 80
	}
}

type line struct {
	w     io.Writer
	tty   bool
	color bool
	now   func() time.Time
	width func() int

	stage       string
	doneBytes   int64
	total       int64
	first       int64 // bytes done when the stage began: not part of its rate
	began, last time.Time
}

func (l *line) report(stage string, done, total int64) {
	now := l.now()
	changed := stage != l.stage
	if changed {
		l.finish(now)
		l.stage, l.first, l.began, l.last = stage, done, now, time.Time{}
	}
	l.doneBytes, l.total = done, total
	every := redrawEvery
	if !l.tty {
		every = repeatEvery
	}
	if now.Sub(l.last) < every {
		return
	}
	l.last = now
	l.show(now, changed)
}

func (l *line) done() {
	l.finish(l.now())
	l.stage = ""
}

// show draws the present state of the stage.
func (l *line) show(now time.Time, begins bool) {
	numbers := l.numbers(now)
	switch {
	case l.tty:
		l.rewrite(numbers)
	case begins || numbers == "":
		fmt.Fprintln(l.w, clean(l.stage))
	default:
		fmt.Fprintf(l.w, "%s: %s\n", clean(l.stage), numbers)
	}
}

// finish leaves the line of a stage that is over as it was at its end.
func (l *line) finish(now time.Time) {
	if l.stage == "" || !l.tty {
		return
	}
	var numbers []string
	if l.doneBytes > 0 {
		numbers = append(numbers, Bytes(l.doneBytes))
	}
	if took := now.Sub(l.began); took >= time.Second {
		numbers = append(numbers, "in "+Duration(took))
	}
	l.rewrite(strings.Join(numbers, " "))
	fmt.Fprint(l.w, "\n")
}

// rewrite replaces the terminal's line; one that doesn't fit is cut, since a
// wrapped line can't be rewritten.
func (l *line) rewrite(numbers string) {
	room := max(l.width()-1, 10)
	stage := []rune(clean(l.stage))
	if len(stage) > room {
		stage = stage[:room]
	}
	if rest := room - len(stage) - 2; numbers == "" || len(numbers) > rest {
		numbers = ""
	} else {
		numbers = l.dim("  " + numbers)
	}
	fmt.Fprintf(l.w, "\r%s%s\x1b[K", string(stage), numbers)
}

func (l *line) dim(s string) string {
	if !l.color {
		return s
	}
	return "\x1b[2m" + s + "\x1b[0m"
}

// numbers says how far the stage is. Rate and time left are shown from the
// first full second on; before, they would be noise.
func (l *line) numbers(now time.Time) string {
	if l.doneBytes <= 0 && l.total <= 0 {
		return ""
	}
	s := Bytes(l.doneBytes)
	if l.total > 0 {
		s += " of " + Bytes(l.total)
	}
	took := now.Sub(l.began).Seconds()
	rate := float64(l.doneBytes-l.first) / took
	if took < 1 || rate < 1 {
		return s
	}
	s += "  " + Bytes(int64(rate)) + "/s"
	if l.total > l.doneBytes {
		s += "  " + Duration(time.Duration(float64(l.total-l.doneBytes)/rate*float64(time.Second))) + " left"
	}
	return s
}

// Bytes writes a number of bytes for people, in powers of 1000: 12.3 MB.
func Bytes(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	f, units := float64(n)/1000, "kMGTPE"
	for f >= 999.95 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	return fmt.Sprintf("%.1f %cB", f, units[0])
}

// Duration writes a duration for people, to the second: 7s, 3m05s, 2h10m.
func Duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s/60%60)
}

// clean drops what could move the cursor: a stage may name a file.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s)
}
