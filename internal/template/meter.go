package template

import (
	"bufio"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// report is one call of a progress.Func.
type report struct {
	stage       string
	done, total int64
}

// meter turns the messages of mmdebstrap, and of apt and dpkg which it runs,
// into progress. They are meant for people: what it does not know it skips,
// and a message that changed costs a number in the display, nothing else.
type meter struct {
	report func(report)

	stage       string
	done, total int64
	steps       int64 // of dpkg: packages unpacked or configured
	packages    int64
	installed   int64    // bytes that the packages will take
	errors      []string // apt's and mmdebstrap's, the last few
	tail        []string // last lines of any kind
}

const (
	stageLists    = "reading the package lists"
	stageDownload = "downloading packages"
	stageInstall  = "installing packages"
	stageImage    = "writing the disk image"
	keepErrors    = 3
	keepTail      = 5
)

// stages are the steps that mmdebstrap announces.
var stages = []struct{ prefix, stage string }{
	{"I: running apt-get update", stageLists},
	{"I: downloading packages", stageDownload},
	{"I: extracting archives", stageInstall},
	{"I: installing essential packages", stageInstall},
	{"I: installing remaining packages", stageDownload},
	{"I: running --customize-hook", "setting up"},
	{"I: cleaning package lists", "setting up"},
	{"I: creating tarball", stageImage},
}

var (
	needLine  = regexp.MustCompile(`^Need to get ([0-9.,]+ [kMG]?B)`)
	afterLine = regexp.MustCompile(`^After this operation, ([0-9.,]+ [kMG]?B) of additional`)
	countLine = regexp.MustCompile(`^\d+ upgraded, (\d+) newly installed`)
	getLine   = regexp.MustCompile(`^Get:\d+ .* \[([0-9.,]+ [kMG]?B)\]$`)
)

// read consumes the messages until their end. It never stops early: the
// program would block.
func (m *meter) read(r io.Reader) error {
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		m.line(sc.Text())
	}
	_, _ = io.Copy(io.Discard, r) // after a line that is too long
	return nil
}

func (m *meter) line(s string) {
	for _, st := range stages {
		if strings.HasPrefix(s, st.prefix) {
			m.enter(st.stage)
			return
		}
	}
	switch {
	case strings.HasPrefix(s, "E: "):
		m.errors = keepLast(m.errors, s, keepErrors)
	case strings.HasPrefix(s, "Get:"):
		if f := getLine.FindStringSubmatch(s); f != nil {
			m.advance(m.done + parseSize(f[1]))
		}
	case strings.HasPrefix(s, "Fetched ") && m.stage == stageDownload:
		m.enter(stageInstall)
	case strings.HasPrefix(s, "Unpacking "), strings.HasPrefix(s, "Setting up "):
		m.steps++
		if m.stage == stageInstall && m.packages > 0 {
			m.advance(m.total * min(m.steps, 2*m.packages) / (2 * m.packages))
		}
	default:
		m.plan(s)
	}
	m.tail = keepLast(m.tail, s, keepTail)
}

// plan notes what apt announces about the packages that follow.
func (m *meter) plan(s string) {
	if f := countLine.FindStringSubmatch(s); f != nil {
		m.packages, _ = strconv.ParseInt(f[1], 10, 32)
	} else if f := needLine.FindStringSubmatch(s); f != nil {
		m.total = parseSize(f[1])
	} else if f := afterLine.FindStringSubmatch(s); f != nil {
		m.installed = parseSize(f[1])
	}
}

func (m *meter) enter(stage string) {
	m.stage, m.done, m.total, m.steps = stage, 0, 0, 0
	if stage == stageInstall {
		m.total = m.installed
	}
	m.report(report{m.stage, m.done, m.total})
}

func (m *meter) advance(done int64) {
	m.done = done
	if m.total > 0 {
		m.done = min(m.done, m.total)
	}
	m.report(report{m.stage, m.done, m.total})
}

// complaint is what to show of a failed run.
func (m *meter) complaint() string {
	if len(m.errors) > 0 {
		return strings.Join(m.errors, "; ")
	}
	return strings.Join(m.tail, "; ")
}

func keepLast(all []string, s string, n int) []string {
	const longest = 500
	if len(s) > longest {
		s = s[:longest]
	}
	if all = append(all, s); len(all) > n {
		all = all[1:]
	}
	return all
}

// parseSize reads apt's sizes, in decimal units: "7660 B", "25.4 MB".
func parseSize(s string) int64 {
	number, unit, _ := strings.Cut(strings.ReplaceAll(s, ",", ""), " ")
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f < 0 || f > 1e6 {
		return 0
	}
	return int64(f * map[string]float64{"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit])
}

// counter reports how much went through it.
type counter struct {
	r      io.Reader
	n      int64
	told   int64
	report func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.n-c.told >= 1<<20 {
		c.told = c.n
		c.report(c.n)
	}
	return n, err
}
