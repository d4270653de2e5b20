package vhostuser

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A guest can provoke log lines, so they are rationed: a burst, then one every
// interval, with the number of those that were left out.
const (
	rationBurst    = 20
	rationInterval = 10 * time.Second
)

type ration struct {
	slog.Handler
	bucket *bucket
}

type bucket struct {
	mu      sync.Mutex
	tokens  int
	last    time.Time
	dropped int
}

func newRation(h slog.Handler) ration {
	return ration{h, &bucket{tokens: rationBurst}}
}

func (r ration) Handle(ctx context.Context, rec slog.Record) error {
	dropped, ok := r.bucket.take(rec.Time)
	if !ok {
		return nil
	}
	if dropped > 0 {
		rec = rec.Clone()
		rec.AddAttrs(slog.Int("suppressed", dropped))
	}
	return r.Handler.Handle(ctx, rec)
}

func (r ration) WithAttrs(attrs []slog.Attr) slog.Handler {
	return ration{r.Handler.WithAttrs(attrs), r.bucket}
}

func (r ration) WithGroup(name string) slog.Handler {
	return ration{r.Handler.WithGroup(name), r.bucket}
}

func (b *bucket) take(now time.Time) (dropped int, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.last.IsZero() {
		b.last = now
	}
	if n := int(now.Sub(b.last) / rationInterval); n > 0 {
		b.tokens = min(b.tokens+n, rationBurst)
		b.last = now
	}
	if b.tokens == 0 {
		b.dropped++
		return 0, false
	}
	b.tokens--
	dropped, b.dropped = b.dropped, 0
	return dropped, true
}
