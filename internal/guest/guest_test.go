//go:build linux

package guest

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sbx/internal/control"
	"sbx/internal/guest/account"
)

func good() control.Configure {
	return control.Configure{
		Hostname: "web", MachineID: strings.Repeat("0a", 16), Time: 1, Entropy: make([]byte, 64),
		RootDevice: "/dev/vda", ShareTag: "ws", User: "agent", Workdir: "/w", Env: []string{"A=b"},
		Mounts: []control.Mount{{Source: "0", Target: "/home/me/project"}},
	}
}

func TestValidate(t *testing.T) {
	if err := validate(good()); err != nil {
		t.Errorf("a good order was refused: %v", err)
	}
	for name, spoil := range map[string]func(*control.Configure){
		"no name":           func(c *control.Configure) { c.Hostname = "" },
		"newline in name":   func(c *control.Configure) { c.Hostname = "a\nb" },
		"machine id":        func(c *control.Configure) { c.MachineID = strings.Repeat("g", 32) },
		"entropy":           func(c *control.Configure) { c.Entropy = nil },
		"time":              func(c *control.Configure) { c.Time = 0 },
		"device":            func(c *control.Configure) { c.RootDevice = "vda" },
		"user":              func(c *control.Configure) { c.User = "" },
		"workdir":           func(c *control.Configure) { c.Workdir = "/a/../b" },
		"environment":       func(c *control.Configure) { c.Env = []string{"A"} },
		"mount over /":      func(c *control.Configure) { c.Mounts[0].Target = "/" },
		"relative target":   func(c *control.Configure) { c.Mounts[0].Target = "a" },
		"source with slash": func(c *control.Configure) { c.Mounts[0].Source = "a/b" },
		"source above":      func(c *control.Configure) { c.Mounts[0].Source = ".." },
		"no share":          func(c *control.Configure) { c.ShareTag = "" },
	} {
		c := good()
		if spoil(&c); validate(c) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestWithHostname(t *testing.T) {
	const own = "127.0.0.1 localhost web\n::1 localhost ip6-localhost ip6-loopback\n"
	for in, want := range map[string]string{
		"":                                      own,
		"127.0.0.1\tlocalhost old\n10.0.0.1 db": own + "10.0.0.1 db\n",
		own:                                     own,
		"# note\n127.0.1.1 x\n":                 own + "# note\n",
	} {
		if got := withHostname(in, "web"); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestMakeDir(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(root+"/file", nil, 0o644))
	must(os.Symlink("/etc", root+"/link"))
	must(os.MkdirAll(root+"/have/it", 0o700))
	for path, want := range map[string]string{
		"/have/it": "",
		"/new/a/b": "",
		"/file/x":  "/file: is a file in the guest, not a directory",
		"/file":    "/file: is a file in the guest, not a directory",
		"/link/x":  "/link: is a symbolic link in the guest",
	} {
		dir, err := makeDir(root, path)
		if err == nil {
			dir.Close()
			if st, err := os.Stat(root + path); err != nil || !st.IsDir() {
				t.Errorf("%s: not made: %v", path, err)
			}
		}
		if got := errText(err); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestPersistentEnv(t *testing.T) {
	root := t.TempDir()
	os.MkdirAll(root+"/etc/profile.d", 0o755)
	os.WriteFile(root+"/etc/bash.bashrc", []byte("# rc\n"), 0o644)
	user := account.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	for range 2 { // the second time nothing changes
		if err := persistentEnv(root, user); err != nil {
			t.Fatal(err)
		}
	}
	rc, _ := os.ReadFile(root + "/etc/bash.bashrc")
	if n := strings.Count(string(rc), ". /etc/sandbox-persistent.sh"); n != 1 || !strings.HasPrefix(string(rc), "# rc\n") {
		t.Errorf("bash.bashrc: %q", rc)
	}
	for _, f := range []string{"etc/sandbox-persistent.sh", "etc/profile.d/sandbox-persistent.sh"} {
		if _, err := os.Stat(filepath.Join(root, f)); err != nil {
			t.Error(err)
		}
	}
}

func TestStatistics(t *testing.T) {
	if got := cpuBusy([]byte("cpu  100 1 50 9999 8888 2 3 4 50 0\ncpu0 1")); got != 1600*time.Millisecond {
		t.Errorf("busy %v", got)
	}
	if got := cpuBusy(nil); got != 0 {
		t.Errorf("busy %v", got)
	}
	total, available := memory([]byte("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable:  400 kB\n"))
	if total != 1000<<10 || available != 400<<10 {
		t.Errorf("memory %d, %d", total, available)
	}
	if n := processes("/proc"); n < 1 {
		t.Errorf("%d processes", n)
	}
}

func TestIgnores(t *testing.T) {
	status := "Name:\tbash\nVmSize:\t 100 kB\nSigIgn:\t0000000000384004\n"
	if !ignores([]byte(status), syscall.SIGQUIT) || ignores([]byte(status), syscall.SIGHUP) {
		t.Error("wrong bit")
	}
	if ignores([]byte("SigIgn:\tffffffffffffffff\n"), syscall.SIGTERM) {
		t.Error("a kernel thread counts")
	}
}

func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{`/a\040b\134c`: `/a b\c`, `/x\`: `/x\`, `\9999`: `\9999`} {
		if got := unescapeMount(in); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
