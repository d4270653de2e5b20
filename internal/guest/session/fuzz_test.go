//go:build linux

package session

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"sbx/internal/control"
)

// FuzzRequests feeds one payload to all readers of a channel's requests.
func FuzzRequests(f *testing.F) {
	f.Add(ssh.Marshal(control.PtyRequest{Term: "xterm", Columns: 80, Rows: 24, Modes: "\x03\x00\x00\x00\x7f\x00"}))
	f.Add(ssh.Marshal(control.WindowChange{Columns: 1 << 31, Rows: 1}))
	f.Add(ssh.Marshal(control.SignalRequest{Signal: "TERM"}))
	f.Add([]byte(`{"argv":["a","b"],"env":["A=b"],"dir":"/"}`))
	f.Add([]byte(`{"name":"agent","spawn":{"argv":["a"]}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if p, err := parsePty(payload); err == nil {
			size(t, p.width, p.height)
		}
		if w, h, err := parseWindow(payload); err == nil {
			size(t, w, h)
		}
		if n, err := parseSignal(payload); err == nil && (n < 1 || n > 31) {
			t.Errorf("signal %d", n)
		}
		if m, err := parseSpawn(payload); err == nil {
			startable(t, m)
		}
		if m, err := parseAttach(payload); err == nil && m.Spawn != nil {
			startable(t, *m.Spawn)
		}
	})
}

func size(t *testing.T, w, h int) {
	if w < 1 || h < 1 || w > maxSize || h > maxSize {
		t.Errorf("a terminal of %d by %d", w, h)
	}
}

func startable(t *testing.T, m control.Spawn) {
	all := strings.Join(m.Argv, "") + strings.Join(m.Env, "") + m.Dir
	if len(m.Argv) == 0 || m.Argv[0] == "" || strings.Contains(all, "\x00") {
		t.Errorf("accepted %+v", m)
	}
}
