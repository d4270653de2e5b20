//go:build linux

package guest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"sbx/internal/control"
	"sbx/internal/guest/reap"
	"sbx/internal/guest/session"
)

// Main is all of the program sbx-init; it returns the exit status.
func Main() int {
	if filepath.Base(os.Args[0]) == session.SFTPName {
		if err := session.ServeSFTP(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "sbx-init is the first process of a sandbox and of no use elsewhere")
		return 2
	}
	i := &initd{reaper: reap.New()}
	err := i.run()
	// PID 1 must not return: the kernel would panic before the host has read
	// why.
	i.console.print(fmt.Sprintf("stopping: %v", err))
	i.powerOff()
	return 1
}

// initd is the state of PID 1.
type initd struct {
	console  *console
	log      *slog.Logger
	reaper   *reap.Reaper
	sessions *session.Server
	ssh      atomic.Pointer[ssh.ServerConfig]

	configured atomic.Bool // an order to configure was accepted
	rootDisk   atomic.Bool // / is the root disk
	stopping   sync.Once
}

// run boots and serves; it returns only when the guest can't be used any more.
func (i *initd) run() error {
	err := mountEarly()
	i.console = openConsole()
	i.log = i.console.logger()
	if err != nil {
		return err
	}
	ctx := context.Background()
	i.handleSignals()
	go i.reaper.Run(ctx)

	if err := loadModules("/modules"); err != nil {
		return err
	}
	port, err := openPort(ctx, "/sys/class/virtio-ports", "ctl")
	if err != nil {
		return err
	}
	if err := i.newHostKey(); err != nil {
		return err
	}
	i.sessions = &session.Server{Reaper: i.reaper, Log: i.log, SSH: i.ssh.Load, Order: i.order}
	listener := control.Listen(port)
	i.console.print("ready")
	return i.sessions.Serve(ctx, listener)
}

// newHostKey makes the key of connections to come. The channel authenticates
// by itself, but SSH demands a key, and guests resumed from one snapshot must
// not share it.
func (i *initd) newHostKey() error {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return err
	}
	i.ssh.Store(control.ServerConfig(signer))
	return nil
}

// handleSignals keeps the Go runtime from ending PID 1. Ignoring the signals
// instead would make every child ignore them.
func (i *initd) handleSignals() {
	// Ctrl-Alt-Del shall be SIGINT to PID 1 instead of an immediate reset.
	unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF)
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	go func() {
		for s := range signals {
			switch s {
			case syscall.SIGTERM, syscall.SIGINT, syscall.SIGPWR:
				i.log.Warn("powering off", "signal", s.String())
				go i.shutdown(defaultGrace)
			}
		}
	}()
}

// order dispatches the global requests of package control.
func (i *initd) order(ctx context.Context, name string, payload []byte) (reply any, after func(), err error) {
	switch name {
	case control.RequestConfigure:
		err = i.configure(ctx, payload)
	case control.RequestClock:
		reply, err = orderClock(payload)
	case control.RequestStats:
		reply, err = i.orderStats()
	case control.RequestShutdown:
		after, err = i.orderShutdown(payload)
	default:
		return nil, nil, session.ErrUnknownOrder
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
		i.log.Warn("order failed", "error", err)
	}
	return reply, after, err
}

var errConfigured = errors.New("the guest is configured already")
