package template

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sbx/internal/debian"
	"sbx/internal/progress"
)

func TestMeter(t *testing.T) {
	const text = `I: running apt-get update...
Get:1 http://mirror.invalid/debian trixie InRelease [140 kB]
Fetched 9820 kB in 1s (8740 kB/s)
I: downloading packages with apt...
0 upgraded, 2 newly installed, 0 to remove and 0 not upgraded.
Need to get 3 MB of archives.
After this operation, 98.9 MB of additional disk space will be used.
Get:1 http://mirror.invalid/debian trixie/main amd64 libc6 amd64 2.41-12 [1000 kB]
Get:2 http://mirror.invalid/debian trixie/main amd64 odd [7660 B] [2,000 kB]
Fetched 3 MB in 0s (137 MB/s)
I: extracting archives...
I: installing essential packages...
Unpacking libc6:amd64 (2.41-12) ...
Setting up libc6:amd64 (2.41-12) ...
Unpacking odd (1) ...
Setting up odd (1) ...
E: something failed
I: creating tarball...
`
	var got []report
	m := &meter{report: func(r report) { got = append(got, r) }}
	if err := m.read(strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	want := []report{
		{stageLists, 0, 0}, {stageLists, 140e3, 0},
		{stageDownload, 0, 0}, {stageDownload, 1e6, 3e6}, {stageDownload, 3e6, 3e6},
		{stageInstall, 0, 98.9e6}, {stageInstall, 0, 98.9e6}, {stageInstall, 0, 98.9e6},
		{stageInstall, 24.725e6, 98.9e6}, {stageInstall, 49.45e6, 98.9e6},
		{stageInstall, 74.175e6, 98.9e6}, {stageInstall, 98.9e6, 98.9e6},
		{stageImage, 0, 0},
	}
	if !slices.Equal(got, want) {
		t.Errorf("reports\n%v\nwant\n%v", got, want)
	}
	if got := m.complaint(); got != "E: something failed" {
		t.Errorf("complaint %q", got)
	}
}

func FuzzMeter(f *testing.F) {
	f.Add("0 upgraded, 0 newly installed\nAfter this operation, 1 kB of additional\nI: extracting archives\nUnpacking x\n")
	f.Add("Get:1 a [1e300 GB]\nNeed to get 9.9.9 MB\nFetched ")
	f.Fuzz(func(t *testing.T, text string) {
		m := &meter{report: func(r report) {
			if r.done < 0 || r.total < 0 || r.total > 0 && r.done > r.total {
				t.Errorf("report %+v", r)
			}
		}}
		if err := m.read(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestHasSubIDs(t *testing.T) {
	tests := []struct {
		text string
		want bool
	}{
		{"", false},
		{"me:100000:65536\n", true},
		{"1000:100000:65536", true},
		{"you:100000:65536\nme:165536:100000\n", true},
		{"me:100000:1000\n", false},
		{"me:100000\n", false},
		{"menot:100000:65536\n", false},
		{"me:100000:-1\n", false},
	}
	for _, tt := range tests {
		if got := hasSubIDs(tt.text, "me", "1000"); got != tt.want {
			t.Errorf("%q: %v", tt.text, got)
		}
	}
}

func TestPublicURIHasNoCredentials(t *testing.T) {
	for uri, want := range map[string]string{
		"https://user:secret@mirror.invalid/debian/": "https://mirror.invalid/debian",
		"http://mirror.invalid/debian":               "http://mirror.invalid/debian",
	} {
		if got := (recipe{mirror: debian.Mirror{URI: uri}}).publicURI(); got != want {
			t.Errorf("%s: %s, want %s", uri, got, want)
		}
	}
}

func TestSweepRemovesWhatABuildLeft(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s := storeOf(t.TempDir())
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	scratch, _, err := s.newScratch()
	if err != nil {
		t.Fatal(err)
	}
	build := filepath.Join(s.tmp(), "debian-1234")
	if err := errors.Join(os.MkdirAll(filepath.Join(scratch, "a", "b"), 0o755), os.Mkdir(build, 0o755)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{scratch, build} {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there (%v)", path, err)
		}
	}
}

func TestSweepFollowsNoOtherLink(t *testing.T) {
	s := storeOf(t.TempDir())
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	precious := t.TempDir()
	if err := os.Symlink(precious, filepath.Join(s.tmp(), scratchPrefix+"x")); err != nil {
		t.Fatal(err)
	}
	if err := s.sweep(t.Context()); err == nil {
		t.Error("no error")
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

// cacheOfTests is a cache in which templates may be built, which takes
// minutes; `make test` names one that lives on.
func cacheOfTests(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("SBX_TEST_CACHE")
	if cache == "" {
		t.Skip("SBX_TEST_CACHE is not set")
	}
	return cache
}

func debugfs(t *testing.T, image, command string) string {
	t.Helper()
	cmd := exec.Command("debugfs", "-R", command, image)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Skipf("debugfs: %v", err)
	}
	return string(out)
}

func TestDebianTemplate(t *testing.T) {
	cache := cacheOfTests(t)
	mirror, err := debian.HostMirror(t.Context())
	if err != nil {
		t.Skip(err)
	}
	tpl, err := BuildDebian(t.Context(), cache, mirror, progress.Discard)
	if err != nil {
		t.Fatal(err)
	}
	again, err := BuildDebian(t.Context(), cache, mirror, progress.Discard)
	if err != nil || again.ID != tpl.ID || !again.Created.Equal(tpl.Created) {
		t.Errorf("a repeat made %+v of %+v (%v)", again, tpl, err)
	}
	fsck := exec.Command("e2fsck", "-fn", tpl.Image)
	if out, err := fsck.CombinedOutput(); err != nil {
		t.Errorf("e2fsck: %v\n%s", err, out)
	}
	tests := []struct{ command, want string }{
		{"stat /home/agent", "User:  1000   Group:  1000"},
		{"stat /home/agent/workspace", "User:  1000   Group:  1000"},
		{"stat /usr/bin/sudo", "Mode:  04755"},
		{"stat /etc/sudoers.d/agent", "Mode:  0440"},
		{"stat /etc/sandbox-persistent.sh", "Mode:  0644"},
		{"stat /etc/sandbox-persistent.sh", "User:  1000"},
		{"stat /etc/machine-id", "Size: 0"},
		{"cat /etc/passwd", "agent:x:1000:1000:"},
		{"cat /etc/group", "\nagent:x:1000:"},
		{"cat /etc/gitconfig", "directory = *"},
		{"cat /etc/locale.conf", "LANG=en_US.UTF-8"},
		{"cat /etc/apt/sources.list.d/debian.sources", "Suites: trixie"},
		{"cat /etc/bash.bashrc", "/etc/sandbox-persistent.sh"},
		{"cat /etc/profile.d/sandbox-persistent.sh", "/etc/sandbox-persistent.sh"},
		{"stat /usr/bin/git", "Type: regular"},
		{"stat /usr/bin/node", "Inode:"},
		{"stat /usr/bin/npm", "Inode:"},
		{"stat /usr/sbin/dockerd", "Type: regular"},
		{"stat /usr/lib/locale/locale-archive", "Type: regular"},
		{"stat /etc/resolv.conf", "not found"},
		{"stat /etc/hostname", "not found"},
		{"stat /etc/ssh/ssh_host_rsa_key", "not found"},
		{"stat /etc/apt/apt.conf.d/99mmdebstrap", "not found"},
		{"stat /etc/dpkg/dpkg.cfg.d/99mmdebstrap", "not found"},
	}
	for _, tt := range tests {
		if got := debugfs(t, tpl.Image, tt.command); !strings.Contains(got, tt.want) {
			t.Errorf("%s: no %q in\n%.500s", tt.command, tt.want, got)
		}
	}
	for _, group := range []string{"docker", "sudo"} {
		if !memberOf(debugfs(t, tpl.Image, "cat /etc/group"), group, "agent") {
			t.Errorf("agent is not in the group %s", group)
		}
	}
}

func memberOf(groups, group, user string) bool {
	sc := bufio.NewScanner(strings.NewReader(groups))
	for sc.Scan() {
		if f := strings.Split(sc.Text(), ":"); len(f) == 4 && f[0] == group {
			return slices.Contains(strings.Split(f[3], ","), user)
		}
	}
	return false
}
