package debian

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestChooseMirror(t *testing.T) {
	const debianKeys = "/usr/share/keyrings/debian-archive-keyring.gpg"
	tests := []struct {
		name    string
		sources string // .sources when it has a "Types:", else .list
		origins map[string]origin
		want    string
	}{
		{"one-line", "deb http://mirror.test/debian bookworm main contrib\n", nil, "http://mirror.test/debian"},
		{"one-line with a slash, options and a comment", "# x\ndeb [arch=amd64 signed-by=" + debianKeys + "] http://mirror.test/debian/ trixie main # y\n", nil, "http://mirror.test/debian"},
		{"deb822", "Types: deb deb-src\nURIs: http://mirror.test/debian\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: " + debianKeys + "\n", nil, "http://mirror.test/debian"},
		{"deb822 with comments and folded fields", "# a\nTypes: deb\n# b\nURIs:\n https://mirror.test/debian\nSuites: sid\nComponents: main\n", nil, "https://mirror.test/debian"},
		{"only sources", "deb-src http://mirror.test/debian bookworm main\n", nil, ""},
		{"disabled", "Types: deb\nEnabled: no\nURIs: http://mirror.test/debian\nSuites: trixie\nComponents: main\n", nil, ""},
		{"third party of the same layout", "deb https://download.test/linux/debian bookworm stable\n", nil, ""},
		{"third party with main and its own keys", "deb [signed-by=/etc/apt/keyrings/other.gpg] https://packages.test/debian bookworm main\n", nil, ""},
		{"third party under another path", "deb https://packages.test/tools bookworm main\n", nil, ""},
		{"a mirror under another path, by its keys", "deb [signed-by=" + debianKeys + "] https://proxy.test/remote/deb bookworm main\n", nil, "https://proxy.test/remote/deb"},
		{"a mirror under another path, by its own word", "deb https://proxy.test/remote/deb bookworm main\n",
			map[string]origin{"https://proxy.test/remote/deb": {"Debian", "Debian"}}, "https://proxy.test/remote/deb"},
		{"not Debian, by its own word", "deb https://packages.test/debian bookworm main\n",
			map[string]origin{"https://packages.test/debian": {"Other", "Other"}}, ""},
		{"security comes first, but is not the archive", "deb http://mirror.test/debian-security bookworm-security main\ndeb http://mirror.test/debian bookworm main\n", nil, "http://mirror.test/debian"},
		{"Ubuntu", "Types: deb\nURIs: http://archive.test/ubuntu/\nSuites: noble noble-updates\nComponents: main universe\nSigned-By: /usr/share/keyrings/ubuntu-archive-keyring.gpg\n",
			map[string]origin{"http://archive.test/ubuntu": {"Ubuntu", "Ubuntu"}}, ""},
		{"a key in the file", "Types: deb\nURIs: http://packages.test/debian\nSuites: trixie\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n", nil, ""},
		{"damaged", "deb\ndeb [\ndeb [a=b\ndeb x\ndebian http://mirror.test/debian trixie main\n", nil, ""},
		{"nothing", "", nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parse := parseList
			if strings.Contains(tt.sources, "Types:") {
				parse = parseDeb822
			}
			if got := chooseMirror(parse(tt.sources), tt.origins); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMirrorListFile(t *testing.T) {
	list := filepath.Join(t.TempDir(), "mirrors.list")
	if err := os.WriteFile(list, []byte("# nearest\nhttp://mirror.test/debian\tpriority:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"mirror+file:", "mirror+file://"} {
		in := parseDeb822("Types: deb\nURIs: " + scheme + list + "\nSuites: trixie\nComponents: main\n")
		if got := chooseMirror(expandLists(in), nil); got != "http://mirror.test/debian" {
			t.Errorf("%s: got %q", scheme, got)
		}
	}
}

func TestParseOrigins(t *testing.T) {
	got := parseOrigins("http://a.test/debian/\tDebian\tDebian Backports\nhttp://a.test/debian/\tDebian\tDebian\nhttp://b.test/x/\t$(ORIGIN)\t$(LABEL)\n\njunk\n")
	if len(got) != 1 || got["http://a.test/debian"] != (origin{"Debian", "Debian"}) {
		t.Errorf("got %v", got)
	}
}

func FuzzSources(f *testing.F) {
	f.Add("deb [signed-by=a] http://mirror.test/debian trixie main\n")
	f.Add("Types: deb\nURIs: http://mirror.test/debian\nSuites: trixie\n x\nComponents: main\n\n")
	f.Fuzz(func(_ *testing.T, text string) {
		chooseMirror(parseList(text), nil)
		chooseMirror(parseDeb822(text), nil)
		parseOrigins(text)
		shellVars(text)
		_, _ = parsePackage(text)
		complaints(text)
	})
}

func TestMirrorCheck(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.gpg")
	if err := os.WriteFile(keys, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, uri, keyring, want string }{
		{"fine", "https://mirror.test/debian", keys, ""},
		{"a local copy", "file:///srv/debian", keys, ""},
		{"no scheme", "mirror.test/debian", keys, "neither http"},
		{"no host", "https:///debian", keys, "names no host"},
		{"an injected option", "https://mirror.test/debian] x", keys, "not a mirror's URL"},
		{"an injected line", "https://mirror.test/debian\ndeb", keys, "not a mirror's URL"},
		{"another scheme", "ssh://mirror.test/debian", keys, "neither http"},
		{"no keys", "https://mirror.test/debian", keys + ".missing", "install the package debian-archive-keyring"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Mirror{URI: tt.uri, Keyring: tt.keyring}.check()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParsePackage(t *testing.T) {
	const rest = "Size: 12\nSHA256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n"
	tests := []struct{ name, text, standsFor, fails string }{
		{"meta package", "Package: linux-image-cloud\nVersion: 1\nInstalled-Size: 13\nDepends: linux-image-6-cloud (= 1)\n" + rest, "linux-image-6-cloud", ""},
		{"two dependencies", "Package: a1\nVersion: 1\nDepends: b1 (= 1), c1 (= 1)\n" + rest, "", ""},
		{"not pinned", "Package: a1\nVersion: 1\nDepends: libc6 (>= 1)\n" + rest, "", ""},
		{"has contents", "Package: a-dev\nVersion: 1\nInstalled-Size: 900\nDepends: b1 (= 1)\n" + rest, "", ""},
		{"no size", "Package: a1\nVersion: 1\n", "", "no size"},
		{"no checksum", "Package: a1\nVersion: 1\nSize: 1\n", "", "SHA-256"},
		{"an option as its name", "Package: --x\nVersion: 1\n" + rest, "", "SHA-256"},
		{"empty", "", "", "no package"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := parsePackage(tt.text)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil || p.standsFor() != tt.standsFor {
				t.Errorf("stands for %q, %v; want %q", p.standsFor(), err, tt.standsFor)
			}
		})
	}
}

func TestKeepAcquire(t *testing.T) {
	tests := map[string]bool{
		"Acquire::http::Proxy \"http://proxy.test:3128\";\n":       true,
		"Acquire::https::CAInfo \"/etc/ssl/x.pem\";\n":             true,
		"Acquire::Languages:: \"none\";\n":                         false,
		"Acquire::AllowInsecureRepositories \"1\";\n":              false,
		"Acquire::IndexTargets::deb::DEP-11::MetaKey \"x\";\n":     false,
		"APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/*\";\n": false,
	}
	for line, want := range tests {
		if got := keepAcquire(line); got != want {
			t.Errorf("%q: got %v", line, got)
		}
	}
}
