package workspace

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Real programs, each of which has found a fault in some network file system.
var programs = []struct{ name, needs, script string }{
	{"git", "git", `
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q repo && cd repo
for i in $(seq 300); do mkdir -p d$((i % 7)); echo $i > d$((i % 7))/f$i; done
git add . && git commit -qm one
test -z "$(git status --porcelain)"
git checkout -qb other && git mv d0 e0 && git commit -qam two && git checkout -q -
git merge -q --no-edit other && git gc -q && git fsck --strict
cd .. && git clone -q repo copy && cd copy && git log --oneline | wc -l | grep -q 2
test -z "$(git status --porcelain)"`},
	{"tar", "tar", `
mkdir src && cd src && mkdir -p a/b && echo x > a/b/f && ln -s ../b/f a/l && ln a/b/f a/hard && mkfifo a/p && chmod 600 a/b/f && chmod 555 a/b
touch -d @1000000000 a/b/f && truncate -s 10M a/sparse && cd ..
tar -cf t.tar -S src && mkdir dst && tar -xpf t.tar -C dst
diff -r --no-dereference src/a/b dst/src/a/b
test "$(stat -c %a:%Y dst/src/a/b/f)" = 600:1000000000
test "$(stat -c %h dst/src/a/hard)" = 2 && test "$(readlink dst/src/a/l)" = ../b/f && test -p dst/src/a/p
test "$(stat -c %b dst/src/a/sparse)" -lt 100
cp -a src again && chmod -R u+w . && rm -rf src dst again && test ! -e src`},
	{"sqlite", "sqlite3", `
pids=
sqlite3 db 'pragma journal_mode=wal; create table t(n)' >/dev/null
for w in 1 2 3; do ( for i in $(seq 30); do sqlite3 -cmd '.timeout 60000' db "insert into t values($i)" || exit 1; done ) & pids="$pids $!"; done
for p in $pids; do wait $p || exit 1; done
test "$(sqlite3 db 'select count(*) from t; pragma integrity_check' | tr '\n' ' ')" = '90 ok '`},
	{"make and gcc", "gcc", `
for i in 1 2 3 4; do echo "int f$i(void) { return $i; }" > f$i.c; done
echo 'int f1(void),f2(void),f3(void),f4(void); int main(void) { return f1()+f2()+f3()+f4()-10; }' > main.c
printf 'O=f1.o f2.o f3.o f4.o main.o\nprog: $(O)\n\tgcc -o $@ $(O)\n%%.o: %%.c\n\tgcc -c -o $@ $<\nlib.a: $(O)\n\tar rcs $@ $(O)\n' > Makefile
make -s -j4 prog lib.a && ./prog && make -q prog
cp prog copy && ./copy`},
	{"go", "go", `
export GOFLAGS=-mod=mod GOPROXY=off GOTOOLCHAIN=local GO111MODULE=on CGO_ENABLED=0
mkdir m && cd m && printf 'module m\ngo 1.21\n' > go.mod
printf 'package main\nfunc main() { println(len("hi")) }\n' > main.go
go build -o prog . && ./prog && go vet . && go build -o prog .`},
	{"python", "python3", `
python3 - <<'END'
import os, shutil, tempfile, fcntl, mmap, pathlib
with tempfile.TemporaryDirectory(dir='.') as d:
    for i in range(200):
        pathlib.Path(d, f'f{i}').write_text(str(i))
    with tempfile.TemporaryFile(dir=d) as f:
        f.write(b'x' * 100000); f.seek(0); assert len(f.read()) == 100000
        fcntl.lockf(f, fcntl.LOCK_EX)
    shutil.copytree(d, 'copy')
    with open('copy/f1', 'r+b') as f:
        f.truncate(8192)
        with mmap.mmap(f.fileno(), 8192) as m:
            m[4096:4099] = b'abc'
    assert pathlib.Path('copy/f1').read_bytes()[4096:4099] == b'abc'
shutil.rmtree('copy')
END`},
}

func TestPrograms(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, p := range programs {
		t.Run(p.name, func(t *testing.T) {
			if path, err := exec.LookPath(p.needs); err != nil {
				t.Skip(err)
			} else if _, err := os.Stat("/usr/bin/" + filepath.Base(path)); err != nil && !strings.HasPrefix(p.needs, "go") {
				t.Skipf("%s is not for every user", path)
			}
			x := mounted(t, childConfig{UID: nobody})
			cmd := exec.Command("bash", "-euc", p.script)
			cmd.Dir = x.rw
			if p.needs != "go" { // whose cache belongs to us
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: testOwner.UID, Gid: testOwner.GID}}
				cmd.Env = append(os.Environ(), "HOME="+x.rw, "PATH=/usr/local/bin:/usr/bin:/bin")
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
