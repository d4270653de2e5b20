package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"sbx/internal/kernel"
	"sbx/internal/kit"
	"sbx/internal/lifecycle"
	"sbx/internal/sandbox"
	"sbx/internal/settings"
)

// createFlags are the flags of create and run that describe a new sandbox.
type createFlags struct {
	name, template         string
	cpus                   int
	memory, disk           string
	pids                   int64
	env, envFiles          []string
	idle                   string
	kernel, kernelModules  string
	force, detached, quiet bool
}

func (f *createFlags) register(a *app, cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.name, "name", "", "name of the sandbox (default AGENT-FOLDER)")
	fs.StringVarP(&f.template, "template", "t", "", "template of its root disk")
	fs.IntVar(&f.cpus, "cpus", 0, "virtual processors, 0: all of the host's (default: setting vm.cpus)")
	fs.StringVarP(&f.memory, "memory", "m", "", "memory, for example 4g (default: setting vm.memory, else half of the host's, at most 32g)")
	fs.StringVar(&f.disk, "disk", "", "size of its disk (default: setting vm.disk)")
	fs.Int64Var(&f.pids, "pids", 0, "most processes at once, 0: no limit")
	fs.StringArrayVarP(&f.env, "env", "e", nil, "environment variable K=V for all sessions; K alone takes your value")
	fs.StringArrayVar(&f.envFiles, "env-file", nil, "file of K=V lines")
	fs.StringVar(&f.idle, "idle-timeout", "", "stop when nobody has used it for so long, 0: never (default: setting vm.idle-timeout)")
	fs.StringVar(&f.kernel, "kernel", "", "kernel file (vmlinux or bzImage) instead of the prepared one")
	fs.StringVar(&f.kernelModules, "kernel-modules", "", "folder with that kernel's modules")
	fs.BoolVar(&f.force, "force", false, "share a folder that holds too much, your home for example")
	fs.BoolVarP(&f.quiet, "quiet", "q", false, "print only the name")
	cmd.RegisterFlagCompletionFunc("template", a.completeTemplates)
}

// given says which of the flags that shape a new sandbox the user gave.
func (f *createFlags) given(cmd *cobra.Command) []string {
	var names []string
	for _, name := range []string{"template", "cpus", "memory", "disk", "pids", "env", "env-file", "idle-timeout", "kernel"} {
		if cmd.Flags().Changed(name) {
			names = append(names, "--"+name)
		}
	}
	return names
}

func (a *app) createCommand() *cobra.Command {
	var f createFlags
	cmd := &cobra.Command{
		Use:   "create [flags] AGENT [PATH[:ro]...]",
		Short: "Create and start a sandbox without attaching to it",
		Long: `Create and start a sandbox without attaching to it. Each PATH is a folder that
the sandbox sees at the same path, live in both directions; PATH:ro can't be
written from inside. Without a PATH no folder of this computer is shared.`,
		Example: `  sbx create shell                      # nothing shared
  sbx create --name web shell . ../docs:ro`,
		Args:              atLeast(1),
		ValidArgsFunction: completeAgent,
		RunE: func(cmd *cobra.Command, args []string) error {
			workspaces, err := a.workspaces(cmd.Context(), args[1:], f.force)
			if err != nil {
				return err
			}
			r, err := a.create(cmd.Context(), &f, args[0], workspaces)
			if err != nil {
				return err
			}
			if f.quiet {
				fmt.Fprintln(a.stdout, r.Name)
				return nil
			}
			fmt.Fprintf(a.stdout, "%s is running; open a shell in it with: sbx exec -it %s bash\n", r.Name, r.Name)
			return nil
		},
	}
	f.register(a, cmd)
	cmd.Flags().BoolVarP(&f.detached, "detached", "d", true, "as always; for those used to it")
	return cmd
}

// workspaces resolves PATH arguments. Sharing too much needs force or a yes.
func (a *app) workspaces(ctx context.Context, args []string, force bool) ([]sandbox.Workspace, error) {
	var list []sandbox.Workspace
	for _, arg := range args {
		w, err := sandbox.ParseWorkspace(arg)
		if ctx.Err() == nil && errors.Is(err, sandbox.ErrTooMuch) && (force || a.interactive() && a.confirm(ctx, err.Error()+". Share it all the same?") == nil) {
			err = nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, w)
	}
	return sandbox.Distinct(list)
}

// create makes a new sandbox and starts it. One that does not start is removed
// again: there is nothing in it yet.
func (a *app) create(ctx context.Context, f *createFlags, agent string, workspaces []sandbox.Workspace) (*sandbox.Record, error) {
	r, err := a.newRecord(f, agent, workspaces)
	if err != nil {
		return nil, err
	}
	k, err := a.ownKernel(ctx, f)
	if err != nil {
		return nil, err
	}
	m := a.manager()
	if err := a.addRecord(ctx, m, f, r, k); err != nil {
		return nil, err
	}
	if err := m.Start(ctx, r.Name); err != nil {
		if ctx.Err() == nil {
			err = errors.Join(err, m.Remove(context.WithoutCancel(ctx), r.Name))
		} else {
			a.tell(fmt.Sprintf("the sandbox %s exists and may go on starting; remove it with: sbx rm -f %s", r.Name, r.Name))
		}
		return nil, err
	}
	return r, nil
}

// addRecord creates the sandbox; a name that we chose gets a number while it
// is taken.
func (a *app) addRecord(ctx context.Context, m *lifecycle.Manager, f *createFlags, r *sandbox.Record, k *kernel.Kernel) error {
	base := r.Name
	for n := 2; ; n++ {
		err := m.Create(ctx, r, k)
		if !errors.Is(err, sandbox.ErrExists) {
			return err
		}
		if f.name != "" {
			return fmt.Errorf("sandbox %q exists already; choose another --name, enter it with sbx exec -it %s bash, or remove it with sbx rm %s", r.Name, r.Name, r.Name)
		}
		r.Name = fmt.Sprintf("%s-%d", base, n)
	}
}

func (a *app) ownKernel(ctx context.Context, f *createFlags) (*kernel.Kernel, error) {
	if f.kernel == "" {
		return nil, nil
	}
	path, err := filepath.Abs(f.kernel)
	if err != nil {
		return nil, err
	}
	return kernel.FromFile(ctx, a.dirs.Cache, path, f.kernelModules)
}

func (a *app) newRecord(f *createFlags, agent string, workspaces []sandbox.Workspace) (*sandbox.Record, error) {
	k, err := kit.Find(agent)
	if err != nil {
		return nil, usageErrorf("%w", err)
	}
	r := &sandbox.Record{
		Name:       f.name,
		Agent:      k.Name,
		Created:    time.Now().UTC().Truncate(time.Second),
		Workspaces: workspaces,
		Template:   sandbox.Image{Name: k.Template},
		Pids:       f.pids,
	}
	if f.template != "" {
		r.Template.Name = f.template
	}
	if r.Name == "" {
		folder := ""
		if len(workspaces) > 0 {
			folder = workspaces[0].Path
		}
		r.Name = sandbox.DefaultName(k.Name, folder)
	}
	if err := sandbox.CheckName(r.Name); err != nil {
		return nil, usageErrorf("%w", err)
	}
	if r.Env, err = environment(f.envFiles, f.env); err != nil {
		return nil, err
	}
	return r, a.sizes(f, r)
}

// sizes fills in processors, memory, disk and idle timeout from flags, else
// from the settings.
func (a *app) sizes(f *createFlags, r *sandbox.Record) (err error) {
	r.CPUs, r.Memory, r.Disk, r.IdleTimeout = a.settings.CPUs(), a.settings.Memory(), a.settings.Disk(), a.settings.IdleTimeout()
	if f.cpus != 0 {
		r.CPUs = f.cpus
	}
	if r.CPUs == 0 {
		r.CPUs = runtime.NumCPU()
	}
	if r.CPUs < 1 || r.CPUs > runtime.NumCPU() {
		return usageErrorf("--cpus %d: this machine has %d; 0 means all", r.CPUs, runtime.NumCPU())
	}
	if f.pids < 0 {
		return usageErrorf("--pids %d: it can't be negative; 0 means no limit", f.pids)
	}
	if f.memory != "" {
		if r.Memory, err = settings.ParseMemory(f.memory); err != nil {
			return usageErrorf("--memory %w", err)
		}
	}
	if err := fitMemory(r); err != nil {
		return err
	}
	if f.disk != "" {
		if r.Disk, err = settings.ParseDisk(f.disk); err != nil {
			return usageErrorf("--disk %w", err)
		}
	}
	if f.idle != "" {
		if r.IdleTimeout, err = settings.ParseIdleTimeout(f.idle); err != nil {
			return usageErrorf("--idle-timeout %w", err)
		}
	}
	return nil
}

// mostMemory is the most that a sandbox gets without being asked for.
const mostMemory = 32 << 30

func fitMemory(r *sandbox.Record) error {
	host, err := hostMemory()
	if err != nil {
		return fmt.Errorf("cannot tell how much memory this machine has: %w; give --memory", err)
	}
	if r.Memory == 0 {
		r.Memory = min(host/2, mostMemory) &^ (1<<20 - 1)
	}
	if r.Memory > host {
		return usageErrorf("--memory %s: this machine has %s", settings.FormatSize(r.Memory), settings.FormatSize(host))
	}
	return nil
}

// sameSandbox finds the sandbox that run means when it got no name: same agent,
// same folders.
func (a *app) sameSandbox(agent string, workspaces []sandbox.Workspace) (*sandbox.Record, error) {
	names, err := a.store.Names()
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		r, err := a.store.Get(name)
		if err != nil {
			continue // ls and diagnose tell
		}
		if r.Agent == agent && slices.Equal(r.Workspaces, workspaces) {
			return r, nil
		}
	}
	return nil, nil
}

// currentFolder is the workspace of a run without a PATH.
func currentFolder() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot tell the current folder: %w; name one", err)
	}
	return dir, nil
}

func completeAgent(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	return kit.Names(), cobra.ShellCompDirectiveNoFileComp
}
