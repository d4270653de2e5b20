// Package kit says what an agent needs: its template and what to start in it.
package kit

import (
	"fmt"
	"strings"

	"sbx/internal/nearest"
)

// Kit is one agent.
type Kit struct {
	Name        string
	Description string
	Template    string
	// Entrypoint is the program, Flags its arguments unless the user has others.
	Entrypoint []string
	Flags      []string
}

var builtin = []Kit{{
	Name:        "shell",
	Description: "a bash shell, no agent",
	Template:    "debian",
	Entrypoint:  []string{"bash"},
	Flags:       []string{"-l"},
}}

// Names lists the built-in agents.
func Names() []string {
	var names []string
	for _, k := range builtin {
		names = append(names, k.Name)
	}
	return names
}

// Find returns the built-in agent of that name.
func Find(name string) (Kit, error) {
	for _, k := range builtin {
		if k.Name == name {
			return k, nil
		}
	}
	return Kit{}, fmt.Errorf("unknown agent %q%s; there are: %s", name, nearest.Suggest(name, Names()), strings.Join(Names(), ", "))
}

// Command is the agent's command line with the user's arguments: they follow
// the default flags when the first one is a flag, else they replace them.
func (k Kit) Command(args []string) []string {
	command := append([]string(nil), k.Entrypoint...)
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		command = append(command, k.Flags...)
	}
	return append(command, args...)
}
