package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"sbx/internal/dirs"
	"sbx/internal/sandbox"
	"sbx/internal/vmm"
	"sbx/internal/workspace"
)

// Config is what a supervisor needs to know beside the sandbox's record.
type Config struct {
	Dirs  dirs.Dirs
	Store *sandbox.Store
	Name  string
	// Accel is "auto", "kvm" or "tcg"; Monitor the path of QEMU, empty: found.
	Accel   string
	Monitor string
	// Debug logs more.
	Debug bool
}

// supervisor is one running sandbox.
type supervisor struct {
	cfg     Config
	record  *sandbox.Record
	log     *slog.Logger
	runtime string // directory of the sockets
	started time.Time

	workspace *workspace.Server // nil without workspaces
	machine   vmm.Machine
	accel     vmm.Accel
	guest     *guestLink
	usage     usageMeter
	activity  activity

	cancelStart context.CancelFunc
	ran         atomic.Bool // the machine has come up: the fields above are set

	mu       sync.Mutex
	state    State
	startErr error         // why it never ran
	ssh      net.Listener  // nil before the guest takes sessions
	ready    chan struct{} // closed when it runs, or never will
}

// Run is the supervisor's whole life. It returns when the sandbox has ended.
func Run(ctx context.Context, cfg Config) error {
	events := os.NewFile(eventsFD, "events")
	if st, err := events.Stat(); err != nil || st.Mode()&fs.ModeNamedPipe == 0 {
		return errors.New("supervise is for internal use; run: sbx start " + cfg.Name)
	}
	syscall.CloseOnExec(eventsFD)
	lock, err := cfg.Store.Lock(cfg.Name)
	if err != nil {
		tell(events, Event{Error: err.Error(), Locked: errors.Is(err, sandbox.ErrLocked)})
		if errors.Is(err, sandbox.ErrLocked) {
			return nil // the one who has it keeps the log
		}
		return err
	}
	defer lock.Release()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	if err := supervise(ctx, cfg, events); err != nil {
		tell(events, Event{Error: err.Error()})
		return err
	}
	return nil
}

// tell is best effort: the command that listens may have been killed.
func tell(w io.Writer, e Event) {
	if b, err := json.Marshal(e); err == nil {
		w.Write(append(b, '\n'))
	}
}

func supervise(ctx context.Context, cfg Config, events *os.File) error {
	logFile, err := openRotating(filepath.Join(cfg.Store.Dir(cfg.Name), "supervisor.log"))
	if err != nil {
		return err
	}
	defer logFile.Close()
	level := slog.LevelInfo
	if cfg.Debug {
		level = slog.LevelDebug
	}
	s := &supervisor{
		cfg:     cfg,
		log:     slog.New(slog.NewTextHandler(logFile, &slog.HandlerOptions{Level: level})),
		runtime: cfg.Store.RuntimeDir(cfg.Name),
		started: time.Now(),
		state:   Starting,
		ready:   make(chan struct{}),
	}
	slog.SetDefault(s.log)
	if s.record, err = cfg.Store.Get(cfg.Name); err != nil {
		return err
	}
	if err := s.prepareRuntime(); err != nil {
		return err
	}
	defer os.RemoveAll(s.runtime)
	starting, cancel := context.WithCancel(ctx)
	defer cancel()
	s.cancelStart = cancel
	api, err := s.serveAPI()
	if err != nil {
		return err
	}
	defer api.Close()
	return s.live(ctx, starting, events)
}

// prepareRuntime empties the runtime directory, where a killed predecessor may
// have left sockets. The lock is ours, so nobody uses them.
func (s *supervisor) prepareRuntime() error {
	if err := dirs.Private(s.cfg.Dirs.Runtime); err != nil {
		return err
	}
	if err := os.RemoveAll(s.runtime); err != nil {
		return err
	}
	return dirs.Private(s.runtime)
}

// live starts the machine, serves it and ends it. The context starting ends
// when somebody stops the sandbox before it runs.
func (s *supervisor) live(ctx, starting context.Context, events *os.File) error {
	err := s.start(starting, func(warning string) {
		s.log.Warn(warning)
		tell(events, Event{Warn: warning})
	})
	if err == nil {
		s.ran.Store(true)
	}
	if err == nil && s.setState(Running, nil) == Stopping || starting.Err() != nil {
		err = errors.New("it was stopped while it started")
	}
	if err != nil {
		s.log.Error("start failed", "error", err)
		s.setState(Stopping, err)
		s.release()
		return err
	}
	s.log.Info("running", "accel", s.accel, "monitor", s.machine.PID(), "after", time.Since(s.started))
	tell(events, Event{Ready: true})
	events.Close()

	background, endTasks := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	for _, task := range []func(context.Context){s.keepClock, s.watchIdle, s.watchDisk, s.sampleUsage} {
		tasks.Go(func() { task(background) })
	}
	select {
	case <-ctx.Done():
		s.log.Info("told to end")
		s.stop(false)
	case <-s.machine.Done():
	}
	s.setState(Stopping, nil)
	endTasks()
	err = s.machine.Err()
	s.log.Info("ended", "error", err)
	s.release()
	tasks.Wait()
	if err != nil {
		return fmt.Errorf("the virtual machine died: %w", err)
	}
	return nil
}

// release ends whatever start began, in the opposite order.
func (s *supervisor) release() {
	if s.machine != nil {
		s.machine.Kill()
	}
	if s.guest != nil {
		s.guest.Close()
	}
	if s.workspace != nil {
		if err := s.workspace.Close(); err != nil {
			s.log.Warn("workspace server", "error", err)
		}
	}
}

// setState moves on, and returns the state before. The first state other than
// Starting settles readiness; Stopping is the last.
func (s *supervisor) setState(to State, startErr error) (from State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if from = s.state; from == Stopping {
		return from
	}
	if s.state == Starting && to != Starting {
		s.startErr = startErr
		defer close(s.ready)
	}
	s.state = to
	if to == Stopping && s.ssh != nil {
		s.ssh.Close() // who comes now waits for the end, and starts it anew
	}
	return from
}

func (s *supervisor) currentState() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}
