package sandbox

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
)

// recordVersion is raised when a field changes its meaning.
const recordVersion = 1

// Record is what sandbox.json holds: all that is needed to start the sandbox.
type Record struct {
	Version    int         `json:"version"`
	ID         string      `json:"id"` // 32 hex digits, never reused; also the guest's machine-id
	Name       string      `json:"name"`
	Agent      string      `json:"agent"`
	Created    time.Time   `json:"created"`
	Workspaces []Workspace `json:"workspaces,omitempty"`
	Template   Image       `json:"template"`
	Kernel     string      `json:"kernel"` // content ID
	CPUs       int         `json:"cpus"`
	Memory     int64       `json:"memory"` // bytes
	Disk       int64       `json:"disk"`   // bytes
	Pids       int64       `json:"pids,omitempty"`
	Env        []string    `json:"env,omitempty"` // K=V
	// IdleTimeout stops a sandbox that nobody uses; 0: never.
	IdleTimeout time.Duration `json:"idle_timeout"`
}

// Image names the template that the root disk overlays.
type Image struct {
	Name string `json:"name"`
	ID   string `json:"id"` // content ID
}

// Workspace is a host folder that the guest sees at the same path.
type Workspace struct {
	Path     string `json:"path"` // absolute, symlinks resolved
	ReadOnly bool   `json:"read_only,omitempty"`
}

func (w Workspace) String() string {
	if w.ReadOnly {
		return w.Path + ":ro"
	}
	return w.Path
}

// NewID returns a fresh identity for a Record.
func NewID() string {
	b := make([]byte, 16)
	rand.Read(b) // never fails (crypto/rand)
	return hex.EncodeToString(b)
}

// Workdir is where sessions start: the primary workspace, else a folder of the
// guest's own.
func (r *Record) Workdir() string {
	if len(r.Workspaces) > 0 {
		return r.Workspaces[0].Path
	}
	return "/home/agent/workspace"
}

var (
	// ErrDamaged says that a sandbox's record can't be read.
	ErrDamaged = errors.New("damaged sandbox record")
	// ErrNewer says why: a newer sbx wrote it. It comes with ErrDamaged.
	ErrNewer = errors.New("it was written by a newer sbx; upgrade this one")
)

func readRecord(dir string) (*Record, error) {
	path := filepath.Join(dir, "sandbox.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("%w %s: %v; repair it, or remove the sandbox with: sbx rm -f %s", ErrDamaged, path, err, filepath.Base(dir))
	}
	if r.Version > recordVersion {
		return nil, fmt.Errorf("%w %s: %w", ErrDamaged, path, ErrNewer)
	}
	if r.Name != filepath.Base(dir) {
		return nil, fmt.Errorf("%w %s: it names %q; the folder's name is the sandbox's name", ErrDamaged, path, r.Name)
	}
	return &r, nil
}

func writeRecord(dir string, r *Record) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, "sandbox.json"), append(b, '\n'), 0o600)
}
