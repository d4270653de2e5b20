package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sbx/internal/vmm"
)

// serveAPI answers on api.sock from the first moment, so that a second command
// can wait for a sandbox that starts.
func (s *supervisor) serveAPI() (*http.Server, error) {
	listener, err := listen(filepath.Join(s.runtime, apiSocket))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.handleStatus)
	mux.HandleFunc("GET /v1/ready", s.handleReady)
	mux.HandleFunc("POST /v1/stop", s.handleStop)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go server.Serve(listener)
	return server, nil
}

func listen(path string) (net.Listener, error) {
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	return l, os.Chmod(path, 0o600)
}

func (s *supervisor) handleReady(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.ready:
	case <-r.Context().Done():
		return
	}
	s.mu.Lock()
	state, err := s.state, s.startErr
	s.mu.Unlock()
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	case state == Stopping:
		http.Error(w, "stopping", http.StatusGone)
	default:
		writeJSON(w, struct{}{})
	}
}

func (s *supervisor) handleStop(w http.ResponseWriter, r *http.Request) {
	var req stopRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<10)).Decode(&req); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if !req.Force {
		select { // a guest that boots can't be asked yet
		case <-s.ready:
		case <-r.Context().Done():
			return
		}
	}
	s.stop(req.Force)
	writeJSON(w, struct{}{})
}

func (s *supervisor) handleStatus(w http.ResponseWriter, r *http.Request) {
	st := Status{State: s.currentState(), PID: os.Getpid(), Started: s.started}
	if st.State != Starting {
		st.Accel = s.accel
		st.Clients = s.activity.Clients()
		if s.machine != nil {
			s.describeMachine(r.Context(), &st)
		}
	}
	writeJSON(w, st)
}

// guestPatience is how long a status waits for the guest's own word.
const guestPatience = 2 * time.Second

func (s *supervisor) describeMachine(ctx context.Context, st *Status) {
	ctx, cancel := context.WithTimeout(ctx, guestPatience)
	defer cancel()
	st.MonitorPID = s.machine.PID()
	st.CPU, st.Resident = s.usage.Now(s.machine)
	if state, err := s.machine.State(ctx); err == nil && state == vmm.IOError {
		st.State = DiskFull
		return
	}
	if st.State != Running {
		return
	}
	client, err := s.guest.Client(ctx)
	if err != nil {
		return
	}
	if stats, err := client.Stats(ctx); err == nil {
		st.Guest = &stats
	}
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

// serveSSH relays each connection on ssh.sock to the guest's SSH server, until
// a stop begins; the streams die with the machine.
func (s *supervisor) serveSSH() error {
	listener, err := listen(filepath.Join(s.runtime, sshSocket))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.ssh = listener
	s.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				s.log.Error("ssh socket", "error", err)
				time.Sleep(100 * time.Millisecond) // out of descriptors: let some go
				continue
			}
			go s.relay(conn.(*net.UnixConn))
		}
	}()
	return nil
}

// relayPatience is how long a client waits for a guest that is there, but does
// not take its stream.
const relayPatience = 30 * time.Second

func (s *supervisor) relay(conn *net.UnixConn) {
	defer conn.Close()
	if s.currentState() != Running && s.currentState() != Starting {
		return // it came in the instant before the socket closed
	}
	defer s.activity.Enter()()
	ctx, cancel := context.WithTimeout(context.Background(), relayPatience)
	stream, err := s.guest.Open(ctx)
	cancel()
	if err != nil {
		s.log.Warn("cannot reach the guest", "error", err)
		return
	}
	defer stream.Close()
	var both sync.WaitGroup
	both.Go(func() {
		io.Copy(stream, conn)
		stream.Close() // ends the direction to the guest; see control.Mux.Open
	})
	both.Go(func() {
		io.Copy(conn, stream)
		conn.CloseWrite()
	})
	both.Wait()
}
