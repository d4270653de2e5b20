package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// sshServer is a private sshd on a loopback port, for this user only.
type sshServer struct {
	dir  string
	port int
	cmd  *exec.Cmd
	log  bytes.Buffer
}

func startSSH(ctx context.Context, b *bench) (*sshServer, error) {
	if err := installSSH(ctx, b); err != nil {
		return nil, err
	}
	sshd, err := findProgram("sshd")
	if err != nil {
		return nil, err
	}
	dir, err := b.temp("ssh")
	if err != nil {
		return nil, err
	}
	s := &sshServer{dir: dir}
	for _, key := range []string{"host", "user"} {
		out, err := exec.CommandContext(ctx, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if os.Getuid() == 0 {
		// Debian's sshd wants it, and the service's unit makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			return nil, err
		}
	}
	s.cmd = exec.Command(sshd, append([]string{"-D", "-e", "-f", "/dev/null"}, s.options()...)...)
	s.cmd.Stderr = &s.log
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if err := s.wait(ctx); err != nil {
		s.close()
		return nil, fmt.Errorf("sshd does not answer: %w: %s", err, strings.TrimSpace(s.log.String()))
	}
	return s, nil
}

func (s *sshServer) options() []string {
	var args []string
	for _, o := range []string{
		"ListenAddress=127.0.0.1", "Port=" + strconv.Itoa(s.port), "HostKey=" + filepath.Join(s.dir, "host"),
		"AuthorizedKeysFile=" + filepath.Join(s.dir, "user.pub"), "StrictModes=no", "UsePAM=no", "PidFile=none",
		"PasswordAuthentication=no", "PermitRootLogin=yes", "UseDNS=no", "LogLevel=ERROR",
	} {
		args = append(args, "-o", o)
	}
	return args
}

// command is an ssh to the server with nothing of the user's configuration.
func (s *sshServer) command(ctx context.Context, argv ...string) *exec.Cmd {
	args := []string{"-F", "none", "-p", strconv.Itoa(s.port), "-i", filepath.Join(s.dir, "user"),
		"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "127.0.0.1"}
	return exec.CommandContext(ctx, "ssh", append(args, argv...)...)
}

// wait tries until a command goes through or sshd has ended.
func (s *sshServer) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := s.command(ctx, "true").Run()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (s *sshServer) close() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// freePort finds a port that is free now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// findProgram also looks where administrators' programs are.
func findProgram(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

// installSSH installs Debian's openssh-server, keeping its service from being
// started, where sshd is missing and this is root.
func installSSH(ctx context.Context, b *bench) error {
	if _, err := findProgram("sshd"); err == nil {
		return nil
	}
	if !b.get || os.Getuid() != 0 {
		return errors.New("there is no sshd: install openssh-server, or run as root")
	}
	b.log("installing openssh-server for the comparison (its service is not started)")
	const policy = "/usr/sbin/policy-rc.d" // asked before a package starts a service
	if f, err := os.OpenFile(policy, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755); err == nil {
		f.WriteString("#!/bin/sh\nexit 101\n")
		f.Close()
		defer os.Remove(policy)
	}
	cmd := exec.CommandContext(ctx, "apt-get", "install", "--yes", "--no-install-recommends", "openssh-server")
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("installing openssh-server: %w: %s", err, lastLine(out))
	}
	return nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}
