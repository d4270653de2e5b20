package vhostuser_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The script takes turns between the two shares, so that what else the host
// does hits both alike.
const benchScript = `
mkdir /peer; mount -t virtiofs peer /peer || exit
now() { cut -d' ' -f1 /proc/uptime | tr -d .; }
drop() { sync; echo 3 > /proc/sys/vm/drop_caches; }
create() { i=0; while [ $i -lt 500 ]; do echo hello > f$i; i=$((i+1)); done; }
open() { i=0; while [ $i -lt 500 ]; do read x < f$i; i=$((i+1)); done; }
stats() { i=0; while [ $i -lt 500 ]; do [ -e f$i ]; i=$((i+1)); done; }
wr() { dd if=/dev/zero of=big bs=1M count=100; }
rd() { dd if=big of=/dev/null bs=1M; }
wr4k() { dd if=/dev/zero of=small bs=4k count=2000; }
rd4k() { dd if=big of=/dev/null bs=4k count=2000 iflag=direct; }
par4k() { for i in 1 2 3 4; do dd if=big of=/dev/null bs=4k count=500 iflag=direct & done; wait; }
lsl() { ls -l; }
clean() { rm -f f*; }
mkdir /ws/b /peer/b
for round in 1 2 3 4 5; do
for what in wr rd wr4k rd4k par4k create stats lsl open clean; do
for who in ws peer; do
cd /$who/b; drop
a=$(now); $what >/dev/null 2>&1; b=$(now)
echo "$what $who $((b-a))" >> /tmp/result
done; done; done
cp /tmp/result /ws/result
`

// TestVMBench compares this server with the program in SBX_VIRTIOFSD, which
// needs root. It prints hundredths of a second: the best and the median of five.
func TestVMBench(t *testing.T) {
	needVM(t)
	program := os.Getenv("SBX_VIRTIOFSD")
	if program == "" {
		t.Skip("SBX_VIRTIOFSD is not set")
	}
	dir, peerDir := t.TempDir(), t.TempDir()
	peer := filepath.Join(t.TempDir(), "fs")
	cmd := exec.Command(program, "--socket-path="+peer, "-o", "source="+peerDir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	eventually(t, "the peer listens", func() bool { return exists(peer) })

	text := benchScript
	if file := os.Getenv("SBX_BENCH_SCRIPT"); file != "" {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	script(t, dir, text)
	bootGuest(t, share(t, dir), "-chardev", "socket,id=fs1,path="+peer,
		"-device", "vhost-user-fs-pci,chardev=fs1,tag=peer,queue-size=512").waitOff(t)

	result, err := os.ReadFile(filepath.Join(dir, "result"))
	if err != nil {
		t.Fatal(err)
	}
	times := map[string][]int{}
	var names []string
	for line := range strings.Lines(string(result)) {
		var what, who string
		var n int
		fmt.Sscan(line, &what, &who, &n)
		if who == "ws" && !slices.Contains(names, what) {
			names = append(names, what)
		}
		times[what+who] = append(times[what+who], n)
	}
	for _, name := range names {
		ours, theirs := times[name+"ws"], times[name+"peer"]
		slices.Sort(ours)
		slices.Sort(theirs)
		t.Logf("%-8s ours %4d %4d, peer %4d %4d", name, ours[0], ours[len(ours)/2], theirs[0], theirs[len(theirs)/2])
	}
}
