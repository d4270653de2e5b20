package workspace

import (
	"log/slog"
	"strings"
)

// logWriter carries go-fuse's messages, which the guest can cause, to a level
// that is off by default.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	const most = 200
	text := strings.TrimSpace(string(p[:min(len(p), most)]))
	w.log.Debug("workspace: fuse", "message", text)
	return len(p), nil
}
