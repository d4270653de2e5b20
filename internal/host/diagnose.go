package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sbx/internal/progress"
	"sbx/internal/vmm/qemu"
)

// Free space below which a check warns, and below which it fails: the default
// template and its making take about two gigabytes.
const (
	fewBytes    = 10 << 30
	tooFewBytes = 3 << 30
)

// maxSocketPath is the longest path of a unix socket on Linux, less its NUL.
// A sandbox's sockets lie at RUNTIME/NAME/control.sock, and the like, for names
// of up to 63 characters; few are longer than 20.
const (
	maxSocketPath = 107
	socketName    = len("//control.sock")
	longName      = 63
	usualName     = 20
)

const runSetup = "run: sbx setup"

// diagnosis collects checks.
type diagnosis struct {
	o            Options
	sys          *system
	checks       []Check
	installation *qemu.Installation // nil: there is none that works
}

func (d *diagnosis) add(c Check) { d.checks = append(d.checks, c) }

func (d *diagnosis) ok(name, detail string) { d.add(Check{Name: name, Status: OK, Detail: detail}) }

func (d *diagnosis) warn(name, detail, mend string) {
	d.add(Check{Name: name, Status: Warn, Detail: detail, Mend: mend})
}

func (d *diagnosis) fail(name, detail, mend string) {
	d.add(Check{Name: name, Status: Fail, Detail: detail, Mend: mend})
}

func (d *diagnosis) host() {
	name := d.sys.os
	if r := d.sys.release(); r.Pretty != "" {
		name = r.Pretty
	}
	switch {
	case d.sys.os != "linux":
		d.fail("host", name+": sandboxes need a Linux host", "use a Linux machine or virtual machine")
	case d.sys.arch != "amd64" && d.sys.arch != "arm64":
		d.fail("host", d.sys.arch+" processors are not supported", "use an x86-64 or arm64 machine")
	default:
		d.ok("host", name+", "+d.sys.arch)
	}
}

// qemu reports QEMU, its tool and its firmware, which Find looks for at once.
func (d *diagnosis) qemu(ctx context.Context) {
	inst, err := d.sys.findQEMU(ctx, d.o.Settings.QEMU())
	if err != nil {
		mend := runSetup
		if d.o.Settings.QEMU() != "" {
			mend = "run: sbx settings set vm.qemu PATH, or: sbx settings unset vm.qemu"
		}
		d.fail("qemu", err.Error(), mend)
		return
	}
	d.installation = inst
	what := fmt.Sprintf("%s, version %s", inst.Binary, inst.Version)
	if inst.Version.Before(preferredQEMU) {
		d.warn("qemu", what+"; it works, but 8.2 or newer does more", runSetup+", where the distribution has a newer one")
	} else {
		d.ok("qemu", what)
	}
	d.ok("qemu-img", inst.Image)
	if inst.Firmware != "" {
		d.ok("firmware", inst.Firmware)
	}
}

func (d *diagnosis) artifact(ctx context.Context, a artifact) {
	if detail, err := a.verify(ctx); err != nil {
		d.fail(a.name, err.Error(), runSetup)
	} else {
		d.ok(a.name, detail)
	}
}

// tools are what setup uses; without them what is prepared still works.
func (d *diagnosis) tools() {
	var missing []string
	if !d.sys.has("apt-get") {
		missing = append(missing, "apt-get")
	}
	for _, n := range d.sys.needs() {
		if !n.here {
			missing = append(missing, n.pkg)
		}
	}
	switch {
	case len(missing) == 0:
		d.ok("tools", "all that setup uses is installed")
	case missing[0] == "apt-get":
		d.warn("tools", "this is not a Debian or Ubuntu host: setup can't install packages or prepare the default template", "prepare them on one, and copy its cache directory")
	default:
		d.warn("tools", "not installed: "+strings.Join(missing, ", "), runSetup)
	}
}

// userNamespaces matter to an ordinary user, for making templates.
func (d *diagnosis) userNamespaces(ctx context.Context) {
	if d.sys.uid == 0 {
		d.ok("user-namespaces", "not needed by root")
		return
	}
	if !d.sys.hasSubordinateIDs() {
		d.warn("user-namespaces", "you have no subordinate user IDs in /etc/subuid and /etc/subgid, which making a template needs", runSetup)
		return
	}
	if err := d.sys.userNamespace(ctx); err != nil {
		mend := "run as root: sysctl -w user.max_user_namespaces=10000"
		switch {
		case d.sys.is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"):
			mend = "run as root: sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
		case d.sys.is("/proc/sys/kernel/unprivileged_userns_clone", "0"):
			mend = "run as root: sysctl -w kernel.unprivileged_userns_clone=1"
		}
		d.warn("user-namespaces", "making a template needs user namespaces: "+err.Error(), mend)
		return
	}
	d.ok("user-namespaces", "usable, with subordinate IDs")
}

func (s *system) is(path, value string) bool {
	data, err := os.ReadFile(s.path(path))
	return err == nil && strings.TrimSpace(string(data)) == value
}

// named are the user's directories by what they are for.
func (d *diagnosis) named() [][2]string {
	return [][2]string{{"config", d.o.Dirs.Config}, {"state", d.o.Dirs.State}, {"cache", d.o.Dirs.Cache}, {"runtime", d.o.Dirs.Runtime}}
}

// directories checks that they, or where they will be made, can be written,
// and that nobody else can enter those that matter.
func (d *diagnosis) directories() {
	var bad, open []string
	for _, n := range d.named() {
		dir := existing(n[1])
		if err := writable(dir); err != nil {
			bad = append(bad, fmt.Sprintf("%s (%s): %v", n[1], n[0], err))
			continue
		}
		info, err := os.Stat(n[1])
		if err == nil && (n[0] == "state" || n[0] == "runtime") && info.Mode().Perm()&0o077 != 0 {
			open = append(open, n[1])
		}
	}
	switch {
	case len(bad) > 0:
		d.fail("directories", "can't write: "+strings.Join(bad, "; "), "mend owner and mode, or set XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME or XDG_RUNTIME_DIR")
	case len(open) > 0:
		d.warn("directories", "other users can enter "+strings.Join(open, ", "), "run: chmod 700 "+strings.Join(open, " "))
	default:
		d.ok("directories", "config, state, cache and runtime can be written")
	}
}

// existing is dir, or the nearest directory above it that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".sbx-check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (d *diagnosis) diskSpace() {
	status, mend := OK, ""
	var found []string
	for _, n := range [][2]string{{"cache", d.o.Dirs.Cache}, {"state", d.o.Dirs.State}} {
		free, err := freeBytes(existing(n[1]))
		if err != nil {
			found, status = append(found, fmt.Sprintf("%s: %v", n[1], err)), Fail
			continue
		}
		found = append(found, fmt.Sprintf("%s free for %s (%s)", progress.Bytes(free), n[1], n[0]))
		switch {
		case free < tooFewBytes:
			status = Fail
		case free < fewBytes && status == OK:
			status = Warn
		}
	}
	if status != OK {
		mend = "make room, for example with 'sbx prune', or set XDG_CACHE_HOME and XDG_STATE_HOME to a larger file system"
	}
	d.add(Check{Name: "disk-space", Status: status, Detail: strings.Join(found, ", "), Mend: mend})
}

func (d *diagnosis) socketPath() {
	const mend = "set XDG_RUNTIME_DIR to a shorter path"
	room := maxSocketPath - socketName - len(d.o.Dirs.Runtime)
	switch {
	case room < usualName:
		d.fail("socket-path", fmt.Sprintf("%s is too long for unix sockets in it: it leaves %d characters for a sandbox's name", d.o.Dirs.Runtime, max(room, 0)), mend)
	case room < longName:
		d.warn("socket-path", fmt.Sprintf("%s is long: it leaves %d characters for a sandbox's name", d.o.Dirs.Runtime, room), mend)
	default:
		d.ok("socket-path", d.o.Dirs.Runtime)
	}
}
