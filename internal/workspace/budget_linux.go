package workspace

import "sync/atomic"

// budget is what all sessions of a server may use together. A guest may mount
// anew as often as it likes while requests keep its former sessions alive, so a
// budget for each would be none.
type budget struct {
	nodes   quota
	handles quota
	idle    quota // descriptors of nodes that are not open
}

const (
	// maxIdle is the most descriptors that are kept only because they may be
	// used again.
	maxIdle = 16 << 10
	// maxHandles is the most files that may be open, however many descriptors
	// the process may have: each costs the host's kernel memory, too.
	maxHandles = 64 << 10
)

// newBudget divides descriptors. A handle costs two: its own and its node's.
func newBudget(descriptors, nodes int) *budget {
	b := &budget{}
	b.nodes.max = int64(nodes)
	b.handles.max = int64(min(max(descriptors*2/5, 4), maxHandles))
	b.idle.max = int64(min(max(descriptors/5, 4), maxIdle))
	return b
}

// quota counts one thing up to a bound.
type quota struct {
	used atomic.Int64
	max  int64
}

func (q *quota) take() bool {
	if q.used.Add(1) > q.max {
		q.used.Add(-1)
		return false
	}
	return true
}

func (q *quota) give() { q.used.Add(-1) }
