package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"sbx/internal/progress"
	"sbx/internal/sandbox"
	"sbx/internal/supervisor"
	"sbx/internal/term"
)

// listing is one sandbox in sbx ls --json. The names are stable.
type listing struct {
	Name        string              `json:"name"`
	Agent       string              `json:"agent"`
	Status      string              `json:"status"`
	CPU         float64             `json:"cpu"`    // processors in use, 1 for a whole one
	Memory      int64               `json:"memory"` // host memory in use, bytes
	CPUs        int                 `json:"cpus"`
	MemoryLimit int64               `json:"memory_limit"`
	Disk        int64               `json:"disk"`
	Ports       []string            `json:"ports"`
	Workspaces  []sandbox.Workspace `json:"workspaces"`
	Template    string              `json:"template"`
	Created     time.Time           `json:"created"`
	Accel       string              `json:"accel,omitempty"`
	PID         int                 `json:"pid,omitempty"`         // supervisor
	MonitorPID  int                 `json:"monitor_pid,omitempty"` // QEMU
	Error       string              `json:"error,omitempty"`       // why a record can't be read
}

func (a *app) lsCommand() *cobra.Command {
	var asJSON, quiet bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list", "ps"},
		Short:   "List sandboxes",
		Args:    exactly(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			names, err := a.store.Names()
			if err != nil {
				return err
			}
			if quiet && !asJSON {
				for _, name := range names {
					fmt.Fprintln(a.stdout, name)
				}
				return nil
			}
			list := a.describeAll(cmd.Context(), names)
			if asJSON {
				return printJSON(a.stdout, list)
			}
			return printListing(a.stdout, list)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print only names")
	return cmd
}

// describeAll asks all sandboxes at once: one that hangs delays no other.
func (a *app) describeAll(ctx context.Context, names []string) []listing {
	described := make([]*listing, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { described[i] = a.describe(ctx, name) })
	}
	all.Wait()
	list := []listing{}
	for _, l := range described {
		if l != nil {
			list = append(list, *l)
		}
	}
	return list
}

// describe returns nil for a sandbox that has just been removed.
func (a *app) describe(ctx context.Context, name string) *listing {
	l := &listing{Name: name, Status: string(supervisor.Stopped), Ports: []string{}, Workspaces: []sandbox.Workspace{}}
	r, err := a.store.Get(name)
	if errors.Is(err, sandbox.ErrNotFound) {
		return nil
	}
	if err != nil {
		l.Status, l.Error = "damaged", err.Error()
		return l
	}
	l.Agent, l.CPUs, l.MemoryLimit, l.Disk, l.Template, l.Created = r.Agent, r.CPUs, r.Memory, r.Disk, r.Template.Name, r.Created
	if r.Workspaces != nil {
		l.Workspaces = r.Workspaces
	}
	if !a.store.Locked(name) {
		return l
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	status, err := a.manager().Status(ctx, name)
	if err != nil {
		l.Status = string(supervisor.Starting)
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			l.Status = "unresponsive"
		}
		if !a.store.Locked(name) {
			l.Status = string(supervisor.Stopped)
		}
		return l
	}
	l.Status, l.CPU, l.Memory = string(status.State), status.CPU, status.Resident
	l.Accel, l.PID, l.MonitorPID = string(status.Accel), status.PID, status.MonitorPID
	return l
}

func printListing(w io.Writer, list []listing) error {
	if len(list) == 0 {
		fmt.Fprintln(w, "No sandboxes. Create one on the current folder with: sbx run shell")
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	fmt.Fprintln(t, "SANDBOX\tAGENT\tSTATUS\tCPU\tMEMORY\tPORTS\tWORKSPACE")
	for _, l := range list {
		cpu, memory := "-", "-"
		if l.MonitorPID != 0 {
			cpu, memory = fmt.Sprintf("%.0f%%", 100*l.CPU), progress.Bytes(l.Memory)
		}
		var paths []string
		for _, w := range l.Workspaces {
			paths = append(paths, term.Printable(w.String()))
		}
		fmt.Fprintln(t, strings.Join([]string{l.Name, orDash(l.Agent), l.Status, cpu, memory, orDash(strings.Join(l.Ports, ",")), orDash(strings.Join(paths, " "))}, "\t"))
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
