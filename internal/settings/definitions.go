package settings

import (
	"fmt"
	"math"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// Definition says what one key may hold.
type Definition struct {
	Key         string
	Default     string
	Description string
	// check says why a value is not acceptable, in words that follow a colon.
	check func(string) error
}

// definitions are all keys, in the order in which they are listed.
var definitions = []Definition{
	{"vm.accel", "auto", "how guest instructions run: kvm (hardware), tcg (emulation), auto (kvm where a probe proves it)", oneOf("auto", "kvm", "tcg")},
	{"vm.qemu", "", "path of the QEMU program; empty: found in PATH", emptyOr(absolute)},
	{"vm.idle-timeout", "10m", "a sandbox without a session stops after this time; 0: never", parses(ParseIdleTimeout)},
	{"vm.memory", "auto", "memory of a new sandbox; auto: half of the host's, at most 32g", parses(ParseMemory)},
	{"vm.cpus", "0", "processors of a new sandbox; 0: all of the host's", parses(ParseCPUs)},
	{"vm.disk", "20g", "size of a new sandbox's disk, which takes room only as it fills", parses(ParseDisk)},
	{"setup.mirror", "", "Debian mirror for kernel and template; empty: the one that this machine's apt uses", emptyOr(mirror)},
	{"setup.backports", "true", "on Debian 12, take QEMU from bookworm-backports: 10.0 instead of 7.2", oneOf("true", "false")},
	{"terminal.detach-keys", "ctrl-p,ctrl-q", "keys that detach from a session; none: no keys do", parses(ParseDetachKeys)},
}

// Limits of a sandbox's size. The least memory is what the kernel needs to
// boot with its initramfs, the least disk what the default template fills.
const (
	MinMemory = 256 << 20
	MaxMemory = 1 << 40
	MinDisk   = 4 << 30
	MaxDisk   = 16 << 40
	MaxCPUs   = 255
)

// ParseMemory reads a size of memory such as 512m or 4g, in bytes; "auto" is 0.
func ParseMemory(s string) (int64, error) {
	if s == "auto" {
		return 0, nil
	}
	return parseSize(s, MinMemory, MaxMemory)
}

// ParseDisk reads a size of a disk such as 20g, in bytes.
func ParseDisk(s string) (int64, error) {
	return parseSize(s, MinDisk, MaxDisk)
}

func parseSize(s string, least, most int64) (int64, error) {
	n, err := units.RAMInBytes(s)
	if err != nil || n == math.MinInt64 {
		return 0, fmt.Errorf("%q is not a size; write for example 512m or 4g", s)
	}
	if n < least || n > most {
		return 0, fmt.Errorf("%q is out of bounds; the least is %s, the most %s", s, FormatSize(least), FormatSize(most))
	}
	return n, nil
}

// FormatSize writes a number of bytes so that ParseMemory and ParseDisk read
// it back: 512m, 4g.
func FormatSize(n int64) string {
	suffixes := []string{"", "k", "m", "g", "t"}
	i := 0
	for i < len(suffixes)-1 && n != 0 && n%1024 == 0 {
		n /= 1024
		i++
	}
	return strconv.FormatInt(n, 10) + suffixes[i]
}

// ParseCPUs reads a number of processors; 0 means all of the host's.
func ParseCPUs(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 || n > MaxCPUs {
		return 0, fmt.Errorf("%q is not a number of processors from 0 (all) to %d", s, MaxCPUs)
	}
	return n, nil
}

// ParseIdleTimeout reads a duration such as 90s, 10m or 2h; 0 means never.
func ParseIdleTimeout(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is not a duration; write for example 90s, 10m or 2h, or 0 for never", s)
	}
	if d > 0 && d < time.Second {
		return 0, fmt.Errorf("%q is shorter than a second; 0 means never", s)
	}
	return d, nil
}

// ParseDetachKeys reads keys separated by commas, each a character or ctrl-
// with a letter or one of @ [ \ ] ^ _, and returns the bytes that a terminal
// sends for them. "none" is no keys.
func ParseDetachKeys(s string) ([]byte, error) {
	if s == "none" {
		return nil, nil
	}
	var keys []byte
	for _, name := range strings.Split(s, ",") {
		key, ok := detachKey(name)
		if !ok {
			return nil, fmt.Errorf("%q is not a key in %q; write for example ctrl-p,ctrl-q, or none", name, s)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func detachKey(name string) (byte, bool) {
	if len(name) == 1 && name[0] > ' ' && name[0] < 0x7f {
		return name[0], true
	}
	rest, ok := strings.CutPrefix(strings.ToLower(name), "ctrl-")
	if !ok || len(rest) != 1 {
		return 0, false
	}
	c := rest[0]
	if c >= 'a' && c <= 'z' {
		c -= 'a' - 'A'
	}
	if c < '@' || c > '_' {
		return 0, false
	}
	return c & 0x1f, true
}

func oneOf(words ...string) func(string) error {
	return func(s string) error {
		for _, w := range words {
			if s == w {
				return nil
			}
		}
		return fmt.Errorf("%q is not one of %s", s, strings.Join(words, ", "))
	}
}

func emptyOr(check func(string) error) func(string) error {
	return func(s string) error {
		if s == "" {
			return nil
		}
		return check(s)
	}
}

func parses[T any](parse func(string) (T, error)) func(string) error {
	return func(s string) error {
		_, err := parse(s)
		return err
	}
}

func absolute(s string) error {
	if !filepath.IsAbs(s) || strings.ContainsAny(s, "\x00\n") {
		return fmt.Errorf("%q is not an absolute path", s)
	}
	return nil
}

// mirror accepts what apt accepts as the URI of an archive and nothing that
// could continue an apt source line.
func mirror(s string) error {
	u, err := url.Parse(s)
	if err != nil || strings.ContainsAny(s, " \t\r\n\x00[]") {
		return fmt.Errorf("%q is not a URL", s)
	}
	switch {
	case (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
	case u.Scheme == "file" && filepath.IsAbs(u.Path):
	default:
		return fmt.Errorf("%q is not the http, https or file URL of a Debian archive", s)
	}
	return nil
}
