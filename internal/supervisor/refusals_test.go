package supervisor

import (
	"bytes"
	"log/slog"
	"testing"

	"sbx/internal/workspace"
)

func TestRefusalsDoNotFillTheLog(t *testing.T) {
	var out bytes.Buffer
	r := &refusals{log: slog.New(slog.NewTextHandler(&out, nil))}
	for range 1000 {
		r.Add(workspace.Refusal{Op: "lookup", Path: "x", Reason: "why"})
	}
	if n := bytes.Count(out.Bytes(), []byte("\n")); n != refusalBurst {
		t.Errorf("%d lines, want %d", n, refusalBurst)
	}
}
