package cli

import (
	"errors"
	"io"
	"os"
	"testing"
)

func TestDetachKeys(t *testing.T) {
	tests := []struct {
		name, keys string
		typed      []string // one read each
		passed     string
		detached   bool
	}{
		{"plain", "\x10\x11", []string{"abc"}, "abc", false},
		{"sequence", "\x10\x11", []string{"ab\x10\x11cd"}, "ab", true},
		{"sequence in two reads", "\x10\x11", []string{"a\x10", "\x11"}, "a", true},
		{"held back, then passed on", "\x10\x11", []string{"\x10", "x"}, "\x10x", false},
		{"first key twice", "\x10\x11", []string{"\x10\x10\x11"}, "\x10", true},
		{"one key", "\x1d", []string{"a\x1db"}, "a", true},
		{"none", "", []string{"\x10\x11"}, "\x10\x11", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			d := newDetachReader(r, []byte(tt.keys))
			go func() {
				for _, s := range tt.typed {
					w.WriteString(s)
				}
				w.Close()
			}()
			got, err := io.ReadAll(d)
			if string(got) != tt.passed || errors.Is(err, errDetached) != tt.detached {
				t.Errorf("passed %q, %v; want %q, detached %v", got, err, tt.passed, tt.detached)
			}
			select {
			case <-d.detached:
			default:
				if tt.detached {
					t.Error("the channel is not closed")
				}
			}
		})
	}
}
