package qemu

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a child that lives no longer than this process.
type process struct {
	pid    int
	cmd    *exec.Cmd
	exited chan struct{} // closed when it was reaped and its output was read
	err    error         // set before exited is closed
}

// spawn starts binary with files as its descriptors 3 and up, and nothing else
// of ours: no environment, no other descriptor, no terminal, and of the file
// system only what a lists.
func spawn(binary string, args []string, dir string, files []*os.File, a access, output io.Writer) (*process, error) {
	// Opened here, because the thread that starts the child can't any more.
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	cmd := exec.Command(binary, args...)
	cmd.Stdin = null
	cmd.Dir = dir
	cmd.Env = []string{"LC_ALL=C"}
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = files
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:    true, // Ctrl-C at our terminal is not for it
		Pdeathsig: syscall.SIGKILL,
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go p.run(a, started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("run %s: %w", binary, err)
	}
	return p, nil
}

// run starts the process and waits for it. The kernel sends Pdeathsig when the
// thread that forked ends, not when the process does (prctl(2); Go issue
// 27505), so the goroutine keeps its thread, and the thread ends with it.
func (p *process) run(a access, started chan<- error) {
	runtime.LockOSThread()
	err := confine(a)
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		started <- err
		return
	}
	p.pid = p.cmd.Process.Pid
	// An abort must not leave a core file, as large as the guest. (There is no
	// way to set this before the child runs; QEMU needs longer to get so far.)
	_ = unix.Prlimit(p.pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	started <- nil
	p.err = p.cmd.Wait()
	close(p.exited)
}

func (p *process) kill() { _ = p.cmd.Process.Kill() }

// cause says how the process, which has exited, ended.
func (p *process) cause() error {
	if p.err != nil {
		return p.err
	}
	return errors.New("exit status 0")
}

// socketPair makes two connected stream sockets: ours, and one for a child.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ours := os.NewFile(uintptr(fds[0]), "ours")
	theirs := os.NewFile(uintptr(fds[1]), "theirs")
	conn, err := net.FileConn(ours) // a duplicate
	_ = ours.Close()
	if err != nil {
		_ = theirs.Close()
		return nil, nil, err
	}
	return conn, theirs, nil
}
