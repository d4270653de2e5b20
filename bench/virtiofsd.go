package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// virtiofsd is a running C virtiofsd, the server that QEMU carried until
// version 7.2.
type virtiofsd struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan struct{}
}

// startVirtiofsd serves root on socket, as root, with the daemon's defaults.
func startVirtiofsd(ctx context.Context, b *bench, socket, root string) (*virtiofsd, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("it needs root")
	}
	binary, err := findVirtiofsd(ctx, b)
	if err != nil {
		return nil, err
	}
	// In a container there may be no right to make name spaces.
	var last error
	for _, sandbox := range []string{"namespace", "chroot"} {
		d := &virtiofsd{done: make(chan struct{})}
		d.cmd = exec.Command(binary, "-f", "--socket-path="+socket, "-o", "source="+root, "-o", "cache=auto", "-o", "sandbox="+sandbox)
		d.cmd.Stderr = &d.log
		if err := d.cmd.Start(); err != nil {
			return nil, err
		}
		go func() { d.cmd.Wait(); close(d.done) }()
		if last = d.wait(ctx, socket); last == nil {
			return d, nil
		}
		d.close()
	}
	return nil, last
}

// wait returns when the daemon listens or has ended.
func (d *virtiofsd) wait(ctx context.Context, socket string) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-d.done:
			return fmt.Errorf("virtiofsd ended: %s", lastLine(d.log.Bytes()))
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if _, err := os.Stat(socket); err == nil {
				return nil
			}
		}
	}
}

func (d *virtiofsd) close() {
	d.cmd.Process.Kill()
	<-d.done
}

// findVirtiofsd unpacks Debian 12's package of QEMU 7.2 into the temporary
// directory; nothing is installed.
func findVirtiofsd(ctx context.Context, b *bench) (string, error) {
	const installed = "/usr/lib/qemu/virtiofsd" // there while QEMU is 7.2
	if out, err := exec.CommandContext(ctx, installed, "--version").CombinedOutput(); err == nil && bytes.Contains(out, []byte("7.2")) {
		return installed, nil
	}
	if !b.get {
		return "", errors.New("it is not installed, and -get=false")
	}
	version, err := packageVersion(ctx, "qemu-system-common", "1:7.2")
	if err != nil {
		return "", err
	}
	dir, err := b.temp("virtiofsd")
	if err != nil {
		return "", err
	}
	b.log("downloading qemu-system-common %s for its virtiofsd (unpacked in %s, not installed)", version, dir)
	for _, argv := range [][]string{
		{"apt-get", "download", "-o", "APT::Sandbox::User=root", "qemu-system-common=" + version},
		{"sh", "-c", "dpkg-deb -x qemu-system-common_*.deb ."},
	} {
		cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", argv[0], err, lastLine(out))
		}
	}
	return filepath.Join(dir, installed), nil
}

// packageVersion is the version of a package that begins like that, among
// those that apt knows.
func packageVersion(ctx context.Context, pkg, prefix string) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "madison", pkg).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Split(line, "|"); len(f) > 1 && strings.HasPrefix(strings.TrimSpace(f[1]), prefix) {
			return strings.TrimSpace(f[1]), nil
		}
	}
	return "", fmt.Errorf("apt knows no %s %s here (Debian 12 has it)", pkg, prefix)
}
