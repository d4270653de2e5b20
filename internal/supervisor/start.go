package supervisor

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sbx/internal/control"
	"sbx/internal/kernel"
	"sbx/internal/template"
	"sbx/internal/term"
	"sbx/internal/vmm"
	"sbx/internal/vmm/qemu"
	"sbx/internal/workspace"
)

// shareTag is the one virtiofs device that carries all workspaces.
const shareTag = "sbx"

// agentID is the user and group ID of the user agent in every template.
const agentID = 1000

// start brings the sandbox up to the point where the guest takes sessions.
func (s *supervisor) start(ctx context.Context, warn func(string)) error {
	image, err := template.Open(s.cfg.Dirs.Cache, s.record.Template.ID)
	if err != nil {
		return err
	}
	k, err := kernel.OpenID(s.cfg.Dirs.Cache, s.record.Kernel)
	if err != nil {
		return err
	}
	if err := s.serveWorkspaces(ctx); err != nil {
		return err
	}
	if err := s.boot(ctx, k, image, warn); err != nil {
		return err
	}
	if err := s.confine(); err != nil {
		return err
	}
	if err := s.configureGuest(ctx, k); err != nil {
		return s.explainBoot(err)
	}
	return s.serveSSH()
}

// bootPatience is far more than a boot takes. Under emulation a guest in several
// hundred loses its timer while it boots, and then hangs for good.
const bootPatience = 75 * time.Second

// boot starts the machine and returns when its guest answers. A guest that
// hangs is started again, once.
func (s *supervisor) boot(ctx context.Context, k *kernel.Kernel, image *template.Template, warn func(string)) error {
	for again := false; ; again = true {
		if err := s.startMachine(ctx, k, image, warn); err != nil {
			return err
		}
		s.log.Info("machine started", "after", time.Since(s.started))
		s.guest = newGuestLink(s.machine, s.log)
		patient, cancel := context.WithTimeout(ctx, bootPatience)
		_, err := s.guest.Client(patient)
		hangs := patient.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil {
			return nil
		}
		if !hangs || again {
			return s.explainBoot(err)
		}
		warn("the guest hangs while it boots; starting it again")
		s.machine.Kill()
		s.guest.Close()
	}
}

func (s *supervisor) startMachine(ctx context.Context, k *kernel.Kernel, image *template.Template, warn func(string)) error {
	inst, err := qemu.Find(ctx, s.cfg.Monitor)
	if err != nil {
		return err
	}
	initrd, err := k.Initramfs()
	if err != nil {
		return err
	}
	if s.accel, err = s.chooseAccel(ctx, inst, k, initrd, warn); err != nil {
		return err
	}
	console, err := openRotating(filepath.Join(s.cfg.Store.Dir(s.record.Name), "console.log"))
	if err != nil {
		return err
	}
	c := vmm.Config{
		Name:    s.record.Name,
		Dir:     s.runtime,
		Kernel:  k.Vmlinux(),
		Initrd:  initrd,
		CPUs:    s.record.CPUs,
		Memory:  s.record.Memory,
		Disks:   []vmm.Disk{{Path: s.cfg.Store.Disk(s.record.Name), Format: "qcow2", Backing: image.Image}},
		Console: console,
		Log:     console,
		Accel:   s.accel,
	}
	if modules := k.ModulesImage(); modules != "" {
		c.Disks = append(c.Disks, vmm.Disk{Path: modules, Format: "raw", ReadOnly: true})
	}
	if s.workspace != nil {
		c.Shares = []vmm.Share{{Tag: shareTag, Socket: filepath.Join(s.runtime, fsSocket)}}
	}
	s.machine, err = qemu.New(inst).Start(ctx, c)
	return err
}

// chooseAccel follows the setting; left to itself it uses KVM where a probe
// guest proved it.
func (s *supervisor) chooseAccel(ctx context.Context, inst *qemu.Installation, k *kernel.Kernel, initrd string, warn func(string)) (vmm.Accel, error) {
	if s.cfg.Accel == string(vmm.TCG) {
		warn("vm.accel is tcg: sandboxes run emulated, several times slower than with KVM")
		return vmm.TCG, nil
	}
	verdict := qemu.ProbeCached(ctx, s.cfg.Dirs.Cache, inst, k.Vmlinux(), initrd)
	switch {
	case verdict.Usable:
		return vmm.KVM, nil
	case s.cfg.Accel == string(vmm.KVM):
		return "", fmt.Errorf("vm.accel is kvm, but KVM can't be used here: %s; mend that, or run: sbx settings set vm.accel auto", verdict.Reason)
	}
	s.log.Info("KVM can't be used", "reason", verdict.Reason)
	warn("no usable KVM: sandboxes run emulated, several times slower; sbx diagnose says why")
	return vmm.TCG, nil
}

func (s *supervisor) serveWorkspaces(ctx context.Context) error {
	if len(s.record.Workspaces) == 0 {
		return nil
	}
	var folders []workspace.Folder
	for i, w := range s.record.Workspaces {
		if err := stillReal(w.Path); err != nil {
			return err
		}
		folders = append(folders, workspace.Folder{Name: strconv.Itoa(i), Path: w.Path, ReadOnly: w.ReadOnly})
	}
	server, err := workspace.Serve(ctx, filepath.Join(s.runtime, fsSocket), folders, workspace.Options{
		Owner:   workspace.Owner{UID: agentID, GID: agentID},
		Log:     s.log,
		Refused: (&refusals{log: s.log}).Add,
	})
	if err != nil {
		return fmt.Errorf("cannot serve the workspace: %w", err)
	}
	s.workspace = server
	return nil
}

// stillReal refuses a workspace whose path means something else than when the
// user shared it: a guest that can write to a folder above it may have put a
// symbolic link in its place.
func stillReal(path string) error {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("workspace %q: %w; bring the folder back, or remove the sandbox", path, err)
	}
	if resolved != path {
		return fmt.Errorf("workspace %q now leads to %q, which you did not share; put the folder back, or remove the sandbox", path, resolved)
	}
	if st, err := os.Stat(path); err != nil || !st.IsDir() {
		return fmt.Errorf("workspace %q is no longer a folder; put it back, or remove the sandbox", path)
	}
	return nil
}

func (s *supervisor) configureGuest(ctx context.Context, k *kernel.Kernel) error {
	client, err := s.guest.Client(ctx)
	if err != nil {
		return err
	}
	s.log.Info("guest answers", "after", time.Since(s.started))
	c := s.guestConfig()
	if k.ModulesImage() != "" {
		c.ModulesDevice = "/dev/vdb"
	}
	return client.Configure(ctx, c)
}

func (s *supervisor) guestConfig() control.Configure {
	entropy := make([]byte, 64)
	rand.Read(entropy)
	c := control.Configure{
		Hostname:   s.record.Name,
		MachineID:  s.record.ID,
		Entropy:    entropy,
		RootDevice: "/dev/vda",
		Env:        s.record.Env,
		User:       "agent",
		Workdir:    s.record.Workdir(),
		PidsMax:    s.record.Pids,
	}
	for i, w := range s.record.Workspaces {
		c.ShareTag = shareTag
		c.Mounts = append(c.Mounts, control.Mount{Source: strconv.Itoa(i), Target: w.Path, ReadOnly: w.ReadOnly})
	}
	// A folder inside another is mounted after it, or it would be hidden.
	slices.SortFunc(c.Mounts, func(a, b control.Mount) int { return len(a.Target) - len(b.Target) })
	c.Time = time.Now().UnixNano()
	return c
}

// explainBoot adds the end of the guest's console to an error of a boot.
func (s *supervisor) explainBoot(err error) error {
	select {
	case <-s.machine.Done():
		if died := s.machine.Err(); died != nil {
			err = died
		}
	default:
	}
	path := filepath.Join(s.cfg.Store.Dir(s.record.Name), "console.log")
	tail := lastLines(path, 5)
	if tail == "" {
		return fmt.Errorf("the guest did not come up: %w", err)
	}
	return fmt.Errorf("the guest did not come up: %w; its console ends with:\n%s", err, tail)
}

// lastLines reads the end of a log that a guest wrote, made printable.
func lastLines(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 4096
	if st, err := f.Stat(); err == nil && st.Size() > most {
		f.Seek(-most, 2)
	}
	b := make([]byte, most)
	got, _ := f.Read(b)
	lines := strings.Split(strings.TrimSpace(string(b[:got])), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	for i, l := range lines {
		lines[i] = "  " + term.Printable(l)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), " ")
}
