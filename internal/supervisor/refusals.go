package supervisor

import (
	"log/slog"
	"sync"
	"time"

	"sbx/internal/workspace"
)

// refusals logs what the workspace server refused, at a bounded rate: a guest
// may try as often as it likes.
type refusals struct {
	log *slog.Logger

	mu      sync.Mutex
	since   time.Time
	logged  int
	dropped int
}

const (
	refusalWindow = 10 * time.Second
	refusalBurst  = 20
)

// Add logs one refusal, or counts it.
func (r *refusals) Add(refusal workspace.Refusal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := time.Now(); now.Sub(r.since) > refusalWindow {
		if r.dropped > 0 {
			r.log.Warn("workspace: more refused", "count", r.dropped)
		}
		r.since, r.logged, r.dropped = now, 0, 0
	}
	if r.logged == refusalBurst {
		r.dropped++
		return
	}
	r.logged++
	r.log.Warn("workspace: refused", "op", refusal.Op, "path", refusal.Path, "reason", refusal.Reason)
}
