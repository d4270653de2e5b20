package host

import (
	"os"
	"strconv"
	"strings"
)

// hasSubordinateIDs says whether the user has ranges of subordinate user and
// group IDs (subuid(5)) that are large enough for a distribution.
func (s *system) hasSubordinateIDs() bool {
	return s.subordinate("/etc/subuid") && s.subordinate("/etc/subgid")
}

func (s *system) subordinate(file string) bool {
	data, err := os.ReadFile(s.path(file))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != s.user && f[0] != strconv.Itoa(s.uid) {
			continue
		}
		if n, err := strconv.Atoi(f[2]); err == nil && n >= 65536 {
			return true
		}
	}
	return false
}
