package kit

import (
	"slices"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	k := Kit{Entrypoint: []string{"agent"}, Flags: []string{"--safe"}}
	for _, tt := range []struct{ args, want string }{
		{"", "agent --safe"},
		{"-p hello", "agent --safe -p hello"},
		{"login now", "agent login now"},
	} {
		if got := k.Command(strings.Fields(tt.args)); !slices.Equal(got, strings.Fields(tt.want)) {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}

func TestUnknownAgentSuggests(t *testing.T) {
	if _, err := Find("shel"); err == nil || !strings.Contains(err.Error(), `did you mean "shell"`) {
		t.Errorf("got %v", err)
	}
}
