package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// guest runs a shell script in the sandbox and returns what it prints.
func (w *world) guest(name, script string) string {
	w.t.Helper()
	return w.sbx("exec", name, "bash", "-ec", script)
}

func TestWorkspace(t *testing.T) {
	w := newWorld(t)
	rw, ro, outside := w.folder("rw"), w.folder("ro"), w.folder("outside")
	write(t, filepath.Join(outside, "secret"), "canary")
	write(t, filepath.Join(ro, "fixed"), "fixed")
	w.sbx("create", "--name", "ws", "shell", rw, ro+":ro")

	t.Run("host changes are seen within a second", func(t *testing.T) {
		w.guest("ws", "! test -e late; ls")
		write(t, filepath.Join(rw, "late"), "one")
		eventually(t, 2*time.Second, func() bool { return strings.TrimSpace(w.guest("ws", "cat late || true")) == "one" })
		write(t, filepath.Join(rw, "late"), "two two")
		eventually(t, 2*time.Second, func() bool { return strings.TrimSpace(w.guest("ws", "cat late")) == "two two" })
		os.Remove(filepath.Join(rw, "late"))
		eventually(t, 2*time.Second, func() bool {
			return strings.TrimSpace(w.guest("ws", "test -e late && echo there || echo gone")) == "gone"
		})
	})
	t.Run("read-only holds against root", func(t *testing.T) {
		w.guest("ws", "cd "+ro+"; ! touch new; ! sudo touch new; ! sudo rm fixed; ! sudo sh -c 'echo x >>fixed'; ! sudo mkdir d; ! sudo ln fixed l; ! sudo mv fixed m; ! sudo chmod 777 fixed")
		w.guest("ws", "sudo mount -o remount,rw "+ro+"; cd "+ro+"; ! sudo touch new; ! sudo sh -c 'echo x >>fixed'; ! sudo truncate -s 0 fixed")
		if got := read(t, filepath.Join(ro, "fixed")); got != "fixed" {
			t.Errorf("a read-only file now holds %q", got)
		}
		if entries, _ := os.ReadDir(ro); len(entries) != 1 {
			t.Errorf("a read-only folder now holds %v", entries)
		}
	})
	t.Run("symlinks lead nowhere", func(t *testing.T) {
		os.Symlink(outside, filepath.Join(rw, "abs"))
		os.Symlink("../outside", filepath.Join(rw, "rel"))
		w.guest("ws", "! cat abs/secret; ! cat rel/secret; ! cat ../outside/secret; ln -s "+outside+"/secret mine; ! cat mine; ! sh -c 'echo x > mine' ; readlink abs")
		if got := read(t, filepath.Join(outside, "secret")); got != "canary" {
			t.Errorf("a file outside now holds %q", got)
		}
		for _, f := range []string{"abs", "rel", "mine"} {
			os.Remove(filepath.Join(rw, f))
		}
	})
	t.Run("owners and modes", func(t *testing.T) {
		w.guest("ws", "touch a; sudo touch r; chmod 751 a; sudo chown nobody a || true; sudo chmod u+s r || true; mkfifo p; ! sudo mknod d b 7 0")
		var st syscall.Stat_t
		for _, f := range []string{"a", "r"} {
			if err := syscall.Lstat(filepath.Join(rw, f), &st); err != nil || int(st.Uid) != os.Getuid() || st.Mode&syscall.S_ISUID != 0 {
				t.Errorf("%s: uid %d mode %o err %v", f, st.Uid, st.Mode, err)
			}
		}
		if err := syscall.Lstat(filepath.Join(rw, "a"), &st); err != nil || st.Mode&0o777 != 0o751 {
			t.Errorf("mode %o, %v", st.Mode, err)
		}
		w.guest("ws", "rm -f a r p d")
	})
	t.Run("files like on any file system", func(t *testing.T) {
		w.guest("ws", `exec 3<>open; echo held >&3; rm open; echo more >&3; test "$(cat /proc/self/fd/3 </dev/null | wc -c)" -ge 0
			long=$(printf 'n%.0s' $(seq 255)); echo x >$long; cat $long; rm $long; ! touch ${long}n
			truncate -s 1G sparse; test $(du -k sparse | cut -f1) -lt 100; rm sparse
			echo one >h1; ln h1 h2; echo two >h2; grep -q two h1; test $(stat -c %h h1) = 2; rm h1 h2
			echo old >target; exec 4<target; echo new >fresh; mv fresh target; grep -q old <&4; grep -q new target
			python3 -c 'import os; os.setxattr("target", "user.note", b"v"); assert os.getxattr("target", "user.note") == b"v"'
			flock target true; rm target`)
		w.guest("ws", `python3 - <<'PY'
import mmap, fcntl, os, threading, sqlite3
with open("m", "wb") as f: f.truncate(1 << 20)
with open("m", "r+b") as f:
    m = mmap.mmap(f.fileno(), 0); m[4096:4101] = b"hello"; m.flush(); m.close()
assert open("m", "rb").read()[4096:4101] == b"hello"
with open("m", "r+b") as f: fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.unlink("m")
def writer(n):
    db = sqlite3.connect("t.db", timeout=120)
    for i in range(10):
        with db: db.execute("insert into t values (?, ?)", (n, i))
db = sqlite3.connect("t.db"); db.execute("create table t (a, b)"); db.commit()
ts = [threading.Thread(target=writer, args=(n,)) for n in range(3)]
[t.start() for t in ts]; [t.join() for t in ts]
assert db.execute("select count(*) from t").fetchone()[0] == 30
assert db.execute("pragma integrity_check").fetchone()[0] == "ok"
os.unlink("t.db")
PY`)
	})
	t.Run("git, make, gcc, tar", func(t *testing.T) {
		w.guest("ws", `git init -q repo && cd repo && git config user.email a@b && git config user.name n
			printf 'hello: hello.c\n\tcc -o hello hello.c\n' >Makefile; echo 'int main(void){return 42;}' >hello.c
			git add . && git commit -qm first && git status --short && make -s && (./hello || test $? = 42)
			cd .. && git clone -q repo clone && git -C clone log --oneline | grep -q first && sudo git -C clone status >/dev/null
			tar cf r.tar repo && mkdir x && tar xf r.tar -C x && sudo tar xf r.tar -C x && diff -r repo x/repo && rm -rf repo clone x r.tar`)
	})
	t.Run("npm", func(t *testing.T) {
		w.guest("ws", `mkdir lib app; echo '{"name":"lib","version":"1.0.0","main":"i.js"}' >lib/package.json; echo 'module.exports = 42' >lib/i.js
			tgz=$(cd lib && npm pack --silent) && cd app && echo '{"name":"app","version":"1.0.0"}' >package.json
			npm install --silent --no-audit --no-fund --offline ../lib/$tgz && test $(node -p 'require("lib")') = 42 && test -f node_modules/lib/i.js && cd .. && rm -rf lib app`)
	})
	t.Run("inotify for changes made inside", func(t *testing.T) {
		w.guest("ws", `python3 - <<'PY'
import ctypes, os, select
c = ctypes.CDLL(None); fd = c.inotify_init(); c.inotify_add_watch(fd, b".", 0x100)
open("watched", "w").close()
assert select.select([fd], [], [], 30)[0] and b"watched" in os.read(fd, 4096)
os.unlink("watched")
PY`)
	})
	t.Run("stop and go on, and reboot", func(t *testing.T) {
		write(t, filepath.Join(rw, "stays"), "here")
		w.sbx("restart", "ws")
		if got := w.guest("ws", "cat stays"); got != "here" {
			t.Errorf("after a restart: %q", got)
		}
	})
	t.Run("a folder that disappears gives errors", func(t *testing.T) {
		if err := os.Rename(rw, rw+".gone"); err != nil {
			t.Fatal(err)
		}
		os.RemoveAll(rw + ".gone")
		cmd := w.command("exec", "-w", "/", "ws", "sh", "-c", "sleep 1.2; ls "+rw+"/stays && echo still there; cat "+ro+"/fixed")
		out, _ := cmd.CombinedOutput()
		if strings.Contains(string(out), "still there") || !strings.Contains(string(out), "fixed") {
			t.Errorf("after the folder went away: %s", out)
		}
	})
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually allows for the promised time plus that of a slow machine's exec.
func eventually(t *testing.T, promised time.Duration, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(promised)
	for tries := 0; !ok(); tries++ {
		if time.Now().After(deadline) && tries > 2 {
			t.Fatal("the guest does not see what the host changed")
		}
	}
}

// TestHostDiskFull needs a small disk of its own for the sandbox: a tmpfs.
func TestHostDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	w := newWorld(t)
	state := filepath.Join(w.dir, "state")
	if err := os.MkdirAll(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", state).CombinedOutput(); err != nil {
		t.Skipf("cannot mount a tmpfs: %s", out)
	}
	t.Cleanup(func() { exec.Command("umount", "-l", state).Run() })
	w.sbx("create", "--name", "full", "shell")
	w.guest("full", "echo precious >~/kept; sync")
	cmd := w.command("exec", "full", "sh", "-c", "dd if=/dev/urandom of=$HOME/big bs=1M count=600 conv=fsync; echo dd ended")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(patience)
	for w.ls()["full"].Status != "disk-full" {
		if time.Now().After(deadline) {
			t.Fatalf("status is %s, want disk-full", w.ls()["full"].Status)
		}
		time.Sleep(200 * time.Millisecond)
	}
	if out, err := exec.Command("mount", "-o", "remount,size=2g", state).CombinedOutput(); err != nil {
		t.Fatalf("%s", out)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the write that waited for space: %v", err)
	}
	if got := w.guest("full", "cat ~/kept; sudo dmesg | grep -ci 'ext4-fs error' || true"); got != "precious\n0\n" {
		t.Errorf("after the disk was full: %q", got)
	}
	w.sbx("rm", "-f", "full")
}
