package sandbox

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// maxName is the length of a host name (RFC 1035 section 2.3.4), which a
// sandbox's name is in its guest.
const maxName = 63

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// CheckName says why name can't name a sandbox.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("a sandbox's name can't be empty")
	case len(name) > maxName:
		return fmt.Errorf("sandbox name %q is %d characters long; at most %d fit a host name", name, len(name), maxName)
	case !validName.MatchString(name):
		return fmt.Errorf("sandbox name %q: use lower-case letters, digits and inner hyphens, for example %q", name, DefaultName("", name))
	}
	return nil
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// DefaultName is the name of a sandbox for which the user gave none: agent and
// folder, reduced to what a host name allows. Folder may be empty.
func DefaultName(agent, folder string) string {
	base := notInName.ReplaceAllString(strings.ToLower(filepath.Base(folder)), "-")
	name := strings.Trim(agent+"-"+base, "-")
	if folder == "" {
		name = agent
	}
	if len(name) > maxName-4 { // room for a number
		name = name[:maxName-4]
	}
	if name = strings.Trim(name, "-"); name == "" {
		return "sandbox"
	}
	return name
}
