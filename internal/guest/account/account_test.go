package account

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const passwd = `root:x:0:0:root:/root:/bin/bash
# comment
broken:x:a:0::/:/bin/sh
short:x:1
agent:x:1000:1000:Agent,,,:/home/agent:/bin/bash
nohome:x:1001:1001:::
7:x:9:9::/nine:/bin/sh
`

const group = `root:x:0:
sudo:x:27:agent,other
agent:x:1000:agent
docker:x:998:other,agent
again:x:998:agent
bad:x:zz:agent
notagent:x:5:agents
`

func tree(t testing.TB, passwd, group string) string {
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"passwd": passwd, "group": group} {
		if err := os.WriteFile(filepath.Join(root, "etc", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestLookup(t *testing.T) {
	root := tree(t, passwd, group)
	agent := User{"agent", 1000, 1000, []uint32{27, 998}, "/home/agent", "/bin/bash"}
	for name, want := range map[string]User{
		"agent":  agent,
		"1000":   agent,
		"root":   {"root", 0, 0, nil, "/root", "/bin/bash"},
		"nohome": {"nohome", 1001, 1001, nil, "/", "/bin/sh"},
		"7":      {"7", 9, 9, nil, "/nine", "/bin/sh"}, // a name wins over an ID
	} {
		got, err := Lookup(root, name)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Lookup(%q) = %+v, %v; want %+v", name, got, err, want)
		}
	}
}

func TestLookupUnknown(t *testing.T) {
	root := tree(t, passwd, group)
	for _, name := range []string{"", "nobody", "broken", "short", "01000", "#", "agent:x", strings.Repeat("a", 300)} {
		if _, err := Lookup(root, name); !errors.Is(err, ErrUnknown) {
			t.Errorf("Lookup(%.20q) = %v, want ErrUnknown", name, err)
		}
	}
}

func TestLookupWithoutFiles(t *testing.T) {
	if _, err := Lookup(t.TempDir(), "root"); err == nil || errors.Is(err, ErrUnknown) {
		t.Errorf("a missing passwd file was reported as %v", err)
	}
}

func FuzzFind(f *testing.F) {
	f.Add(passwd, group, "agent")
	f.Add("a:::::::", "::::", "a")
	f.Fuzz(func(t *testing.T, passwd, group, name string) {
		u, ok := findUser(strings.NewReader(passwd), name)
		if ok && (!strings.HasPrefix(u.Home, "/") || !strings.HasPrefix(u.Shell, "/")) {
			t.Errorf("relative path in %+v", u)
		}
		if g := findGroups(strings.NewReader(group), u); len(g) > maxGroups {
			t.Errorf("%d groups", len(g))
		}
	})
}
