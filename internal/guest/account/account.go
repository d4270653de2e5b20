// Package account looks users up in passwd(5) and group(5) files.
//
// Start from [Lookup]. The files belong to the guest's root disk, which an
// agent with root may have written, so everything is bounded: the size of a
// file, the length of a line, the number of groups. A line that does not parse
// is skipped, as the C library does. NSS is not consulted; sbx-init is static.
package account

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ErrUnknown is returned for a user that the guest does not have.
var ErrUnknown = errors.New("no such user in the guest")

// User is an account and the groups that a login of it gets.
type User struct {
	Name   string
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary, without GID
	Home   string
	Shell  string
}

const (
	maxFile   = 4 << 20
	maxLine   = 64 << 10
	maxGroups = 256
	maxName   = 256
)

// Lookup finds the user name, or the numeric user ID written in decimal, in
// etc/passwd and etc/group below root.
func Lookup(root, name string) (User, error) {
	if name == "" || len(name) > maxName {
		return User{}, fmt.Errorf("user name of %d bytes: %w", len(name), ErrUnknown)
	}
	passwd, err := os.Open(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return User{}, fmt.Errorf("look up user %q: %w", name, err)
	}
	defer passwd.Close()
	u, ok := findUser(passwd, name)
	if !ok {
		return User{}, fmt.Errorf("user %q: %w", name, ErrUnknown)
	}
	group, err := os.Open(filepath.Join(root, "etc/group"))
	if err != nil {
		// An account without a group file still has its primary group.
		return u, nil
	}
	defer group.Close()
	u.Groups = findGroups(group, u)
	return u, nil
}

// findUser returns the entry called name, else the one whose ID name is.
func findUser(r io.Reader, name string) (User, bool) {
	var byID User
	var found bool
	for line := range lines(r) {
		u, ok := parseUser(line)
		switch {
		case !ok:
		case u.Name == name:
			return u, true
		case !found && name == strconv.FormatUint(uint64(u.UID), 10):
			byID, found = u, true
		}
	}
	return byID, found
}

func parseUser(line string) (User, bool) {
	f := strings.Split(line, ":")
	if len(f) != 7 || f[0] == "" || len(f[0]) > maxName {
		return User{}, false
	}
	uid, err1 := strconv.ParseUint(f[2], 10, 32)
	gid, err2 := strconv.ParseUint(f[3], 10, 32)
	if err1 != nil || err2 != nil {
		return User{}, false
	}
	u := User{Name: f[0], UID: uint32(uid), GID: uint32(gid), Home: f[5], Shell: f[6]}
	if !strings.HasPrefix(u.Home, "/") {
		u.Home = "/"
	}
	if !strings.HasPrefix(u.Shell, "/") {
		u.Shell = "/bin/sh"
	}
	return u, true
}

// findGroups returns the groups that list the user as a member.
func findGroups(r io.Reader, u User) []uint32 {
	var groups []uint32
	seen := map[uint32]bool{u.GID: true}
	for line := range lines(r) {
		f := strings.Split(line, ":")
		if len(f) != 4 || len(groups) == maxGroups {
			continue
		}
		gid, err := strconv.ParseUint(f[2], 10, 32)
		if err != nil || seen[uint32(gid)] {
			continue
		}
		for member := range strings.SplitSeq(f[3], ",") {
			if member == u.Name {
				seen[uint32(gid)] = true
				groups = append(groups, uint32(gid))
				break
			}
		}
	}
	return groups
}

// lines yields the lines of r until its end, an error, or a line that is too
// long to be an honest one.
func lines(r io.Reader) func(func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(io.LimitReader(r, maxFile))
		s.Buffer(make([]byte, 4096), maxLine)
		for s.Scan() {
			if !yield(s.Text()) {
				return
			}
		}
	}
}
