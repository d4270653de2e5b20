package template

import (
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
)

// minSubIDs is how many subordinate ids a build needs: those up to nobody.
const minSubIDs = 65536

// checkSubIDs says whether the file, subuid(5) or subgid(5), gives this user
// enough ids.
func checkSubIDs(file string) error {
	u, err := user.Current()
	if err != nil {
		return fmt.Errorf("cannot tell who you are: %w", err)
	}
	data, _ := os.ReadFile(file) // a missing file has no entry
	if hasSubIDs(string(data), u.Username, u.Uid) {
		return nil
	}
	return fmt.Errorf("%s has no range of %d ids for you; add one with `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s`",
		file, minSubIDs, u.Username)
}

func hasSubIDs(text, name, uid string) bool {
	for line := range strings.Lines(text) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != name && f[0] != uid {
			continue
		}
		if n, err := strconv.ParseUint(f[2], 10, 32); err == nil && n >= minSubIDs {
			return true
		}
	}
	return false
}
