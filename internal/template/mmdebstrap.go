package template

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"sbx/internal/ext4"
	"sbx/internal/progress"
)

// grace is how long mmdebstrap may take to remove what it made when a build
// is cancelled; then it is killed, and sweep removes it.
const grace = 10 * time.Second

// run makes the image: mmdebstrap's tar stream goes straight into it.
func (r recipe) run(ctx context.Context, s store, image string, p progress.Func) error {
	scratch, link, err := s.newScratch()
	if err != nil {
		return err
	}
	// The build's own context may have ended. On an error the next build
	// tries again.
	defer removeScratch(context.WithoutCancel(ctx), link) //nolint:errcheck
	cmd, err := r.command(ctx, scratch)
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := s.start(cmd); err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	finished := make(chan struct{})
	var g errgroup.Group
	g.Go(func() error { endWith(running, cmd.Process.Pid, finished); return nil })

	// Reports come from two streams; one goroutine, this one, passes them on.
	reports := make(chan report)
	log := &meter{report: func(rep report) { reports <- rep }}
	var streams errgroup.Group
	streams.Go(func() error { return log.read(stderr) })
	streams.Go(func() error {
		tar := &counter{r: stdout, report: func(n int64) { reports <- report{stageImage, n, 0} }}
		err := ext4.FromTar(ctx, tar, image, ext4.Options{Label: r.name, MinSize: r.minSize})
		if err != nil {
			stop() // nobody reads the stream any more
		}
		return err
	})
	var readErr error
	g.Go(func() error { readErr = streams.Wait(); close(reports); return nil })
	for rep := range reports {
		p(rep.stage, rep.done, rep.total)
	}
	waitErr := cmd.Wait()
	close(finished)
	_ = g.Wait()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case readErr != nil && !errors.Is(readErr, io.ErrUnexpectedEOF):
		return readErr
	case waitErr != nil:
		return fmt.Errorf("mmdebstrap: %w: %s", waitErr, log.complaint())
	}
	return readErr
}

// start starts the build with the running lock, which its processes hold as
// long as one of them lives: the next build waits for those of one whose sbx
// was killed.
func (s store) start(cmd *exec.Cmd) error {
	f, err := os.OpenFile(filepath.Join(s.root, runningLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another build is still running: %w", err)
	}
	cmd.ExtraFiles = []*os.File{f}
	return cmd.Start()
}

// awaitOrphans waits until no process of an earlier build lives.
func (s store) awaitOrphans(ctx context.Context) error {
	release, err := s.lock(ctx, runningLock)
	if err == nil {
		release()
	}
	return err
}

const runningLock = "running.lock"

// endWith ends the process group once ctx does: by a signal that lets it
// clean up, then by force. It returns when the group's leader has finished.
func endWith(ctx context.Context, pid int, finished <-chan struct{}) {
	select {
	case <-finished:
		return
	case <-ctx.Done():
	}
	_ = killGroup(pid, syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-finished:
	case <-t.C:
		_ = killGroup(pid, syscall.SIGKILL)
	}
}

// leader runs a program and, when it is told to end, has the whole process
// group end and clean up. mmdebstrap itself counts on that: alone it ignores
// the signal that the kernel sends it when sbx is killed.
const leader = `trap 'trap "" TERM; kill -TERM 0; wait' TERM; "$@" & wait $!`

// command is mmdebstrap with the recipe, in a process group of its own.
func (r recipe) command(ctx context.Context, scratch string) (*exec.Cmd, error) {
	line, err := r.mirror.Line(r.suite)
	if err != nil {
		return nil, err
	}
	// Also for root, unshare gives the build mounts and processes of its own,
	// so that nothing of them outlives it.
	args := []string{"--mode=unshare", "--format=tar", "--verbose", "--variant=" + r.variant, `--aptopt=Acquire::Retries "3"`}
	if r.mirror.Keyring != "" {
		args = append(args, "--keyring="+r.mirror.Keyring)
	}
	if len(r.packages) > 0 {
		args = append(args, "--include="+strings.Join(r.packages, ","))
	}
	for _, o := range r.dpkgOptions {
		args = append(args, "--dpkgopt="+o)
	}
	if r.customize != "" {
		args = append(args, "--customize-hook="+r.customize)
	}
	cmd := exec.Command("sh", append([]string{"-c", leader, "sh", "mmdebstrap"}, append(args, r.suite, "-", line)...)...)
	cmd.Dir = "/"
	cmd.Env = append(buildEnv(ctx), "TMPDIR="+scratch, "SBX_MIRROR="+r.publicURI(), "SBX_SUITE="+r.suite)
	cmd.SysProcAttr = processGroup()
	return cmd, nil
}

// buildEnv is what of the user's environment the build sees: the way to the
// network. Maintainer scripts have no business with the rest.
func buildEnv(ctx context.Context) []string {
	env := []string{"PATH=" + os.Getenv("PATH") + ":/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LC_ALL=C.UTF-8"}
	for _, scheme := range []string{"http", "https"} {
		proxy := os.Getenv(scheme + "_proxy")
		out, err := exec.CommandContext(ctx, "apt-config", "shell", "P", "Acquire::"+scheme+"::Proxy").Output()
		if v, ok := strings.CutPrefix(strings.TrimSpace(string(out)), "P='"); err == nil && ok {
			proxy = strings.TrimSuffix(v, "'")
		}
		if proxy != "" && proxy != "DIRECT" {
			env = append(env, scheme+"_proxy="+proxy)
		}
	}
	if v := os.Getenv("no_proxy"); v != "" {
		env = append(env, "no_proxy="+v)
	}
	return env
}

// checkHost finds out whether mmdebstrap can work here.
func checkHost(ctx context.Context) error {
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		return errors.New("mmdebstrap is not installed; install the package mmdebstrap")
	}
	if os.Geteuid() != 0 {
		if _, err := exec.LookPath("newuidmap"); err != nil {
			return errors.New("newuidmap, which a build without root needs, is not installed; install the package uidmap")
		}
		for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
			if err := checkSubIDs(file); err != nil {
				return err
			}
		}
	}
	out, err := exec.CommandContext(ctx, "mmdebstrap", "--unshare-helper", "true").CombinedOutput()
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("this system does not let mmdebstrap use namespaces (%s); %s", lastLine(out), namespaceAdvice())
}

// namespaceAdvice says what commonly forbids namespaces.
func namespaceAdvice() string {
	for _, k := range []struct{ file, bad, advice string }{
		{"/proc/sys/kernel/unprivileged_userns_clone", "0", "allow them with `sudo sysctl kernel.unprivileged_userns_clone=1`"},
		{"/proc/sys/user/max_user_namespaces", "0", "allow them with `sudo sysctl user.max_user_namespaces=15000`"},
		{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1", "allow them with `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"},
	} {
		if data, err := os.ReadFile(k.file); err == nil && strings.TrimSpace(string(data)) == k.bad {
			return k.advice
		}
	}
	return "run `sudo sbx setup`, or use a host where `unshare --user --mount` works"
}

func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(lines[len(lines)-1])
}

// newScratch makes the directory in which mmdebstrap works, and remembers it.
// It can't be in the cache: the build's root user is another user, to whom a
// home directory is closed. /var/tmp rather than /tmp, which may be memory.
func (s store) newScratch() (dir, link string, err error) {
	base := os.Getenv("TMPDIR")
	if base == "" {
		base = "/var/tmp"
	}
	if dir, err = os.MkdirTemp(base, "sbx-build-"); err != nil {
		return "", "", err
	}
	link = filepath.Join(s.tmp(), scratchPrefix+filepath.Base(dir))
	if err = errors.Join(os.Chmod(dir, 0o755), os.Symlink(dir, link)); err != nil {
		return "", "", errors.Join(err, os.Remove(dir))
	}
	return dir, link, nil
}

const scratchPrefix = "scratch-"

// sweep removes what builds left behind; the caller holds the build lock.
func (s store) sweep(ctx context.Context) error {
	entries, err := readDir(s.tmp())
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(s.tmp(), e.Name())
		switch {
		case strings.HasPrefix(e.Name(), scratchPrefix):
			err = removeScratch(ctx, path)
		case strings.HasPrefix(e.Name(), "removed-"): // Remove is at work on it
		default:
			err = os.RemoveAll(path)
		}
		if err != nil {
			return fmt.Errorf("cannot remove what an earlier build left: %w", err)
		}
	}
	return nil
}

// removeScratch removes a scratch directory and then the link to it. Its files
// belong to subordinate ids, so a helper in such a namespace empties it.
func removeScratch(ctx context.Context, link string) error {
	dir, err := os.Readlink(link)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(filepath.Base(dir), "sbx-build-") {
		return fmt.Errorf("%s leads to %s, which is no scratch directory", link, dir)
	}
	if err := os.RemoveAll(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		_ = exec.CommandContext(ctx, "mmdebstrap", "--unshare-helper", "sh", "-c", `rm -rf --one-file-system "$1"/*`, "sh", dir).Run()
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	return os.Remove(link)
}
