package qemu

import (
	"slices"
	"strings"
	"testing"

	"sbx/internal/vmm"
)

func sample() vmm.Config {
	return vmm.Config{
		Name: "web", Dir: "/run/sbx/web", Kernel: "/k/vmlinux", Initrd: "/k/initrd",
		CPUs: 2, Memory: 1 << 30, Accel: vmm.TCG,
	}
}

func sampleInstallation() Installation {
	return Installation{Binary: "/usr/bin/qemu", DataDir: "/usr/share/qemu", Firmware: "/usr/share/qemu/qboot.rom"}
}

// option returns the values of a repeated option.
func option(args []string, name string) (values []string) {
	for i, a := range args[:len(args)-1] {
		if a == name {
			values = append(values, args[i+1])
		}
	}
	return values
}

func TestArguments(t *testing.T) {
	for name, test := range map[string]struct {
		arch         string
		change       func(*vmm.Config)
		want, refuse []string // parts of the command line, joined by spaces
	}{
		"q35": {"amd64", func(*vmm.Config) {}, []string{
			"-nodefaults", "-nic none", "-machine q35,", "-bios /usr/share/qemu/qboot.rom", "-accel tcg,thread=multi -cpu max",
			"-m 1024M", "size=1024M,share=on", "-smp 2", "spawn=deny", "tsc=reliable",
		}, []string{"-netdev", "-blockdev", "vhost-user"}},
		"kvm": {"amd64", func(c *vmm.Config) { c.Accel = vmm.KVM },
			[]string{"-accel kvm -cpu host"}, []string{"tsc=reliable", "tcg"}},
		"arm64": {"arm64", func(*vmm.Config) {},
			[]string{"-machine virt,"}, []string{"-bios", "q35", "tsc"}},
		"kernel parameters": {"amd64", func(c *vmm.Config) { c.Cmdline = "debug=1 x=y" },
			[]string{" debug=1 x=y "}, nil},
		"commas": {"amd64", func(c *vmm.Config) { c.Name, c.Dir = "a,b", "/run/x,path=y" },
			[]string{"guest=a,,b", "path=/run/x,,path=y/ctl.sock"}, nil},
		"memory is whole MiB": {"amd64", func(c *vmm.Config) { c.Memory = 300<<20 + 4097 },
			[]string{"-m 300M", "size=300M"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := sample()
			test.change(&c)
			line := strings.Join(arguments(sampleInstallation(), test.arch, c), " ")
			for _, want := range test.want {
				if !strings.Contains(line, want) {
					t.Errorf("no %q in %s", want, line)
				}
			}
			for _, refuse := range test.refuse {
				if strings.Contains(line, refuse) {
					t.Errorf("%q in %s", refuse, line)
				}
			}
		})
	}
}

func TestDisksKeepTheirOrderAndOptions(t *testing.T) {
	c := sample()
	c.Disks = []vmm.Disk{{Path: `/d/root,"x".qcow2`, Format: "qcow2"}, {Path: "/d/modules", Format: "raw", ReadOnly: true}}
	args := arguments(sampleInstallation(), "amd64", c)
	nodes := option(args, "-blockdev")
	if len(nodes) != 2 || !strings.Contains(nodes[0], `"filename":"/d/root,\"x\".qcow2"`) ||
		!strings.Contains(nodes[0], `"driver":"qcow2"`) || !strings.Contains(nodes[1], `"read-only":true`) {
		t.Errorf("disks are %s", nodes)
	}
	first := slices.IndexFunc(args, func(a string) bool { return strings.Contains(a, "drive=disk0") && strings.Contains(a, "addr=0x10") })
	second := slices.IndexFunc(args, func(a string) bool { return strings.Contains(a, "drive=disk1") && strings.Contains(a, "addr=0x11") })
	if first < 0 || second < first {
		t.Errorf("disks are out of order: %s", args)
	}
}

func TestEveryDeviceIsModern(t *testing.T) {
	c := sample()
	c.Disks = []vmm.Disk{{Path: "/d", Format: "raw"}}
	for _, d := range option(arguments(sampleInstallation(), "amd64", c), "-device") {
		if strings.HasPrefix(d, "virtio-") && (!strings.Contains(d, "disable-legacy=on") || !strings.Contains(d, "romfile=")) {
			t.Errorf("device with a legacy interface or a ROM: %s", d)
		}
	}
}

func TestSharesGetPortsAndSomeAreLeft(t *testing.T) {
	c := sample()
	for _, tag := range []string{"a", "b"} {
		c.Shares = append(c.Shares, vmm.Share{Tag: tag, Socket: "/run/" + tag})
	}
	devices := strings.Join(option(arguments(sampleInstallation(), "amd64", c), "-device"), "\n")
	if n := strings.Count(devices, "pcie-root-port"); n != 2+sparePorts {
		t.Errorf("%d ports in %s", n, devices)
	}
	if !strings.Contains(devices, "bus=port1,chardev=share1-socket,tag=b") {
		t.Errorf("second share is missing in %s", devices)
	}
}

func TestValidate(t *testing.T) {
	if err := validate(sample()); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	for want, spoil := range map[string]func(*vmm.Config){
		"processors":      func(c *vmm.Config) { c.CPUs = 0 },
		"bytes of memory": func(c *vmm.Config) { c.Memory = 1 },
		"accelerator":     func(c *vmm.Config) { c.Accel = "" },
		"format":          func(c *vmm.Config) { c.Disks = []vmm.Disk{{Path: "/d", Format: "vmdk"}} },
		`disk "d"`:        func(c *vmm.Config) { c.Disks = []vmm.Disk{{Path: "d", Format: "raw"}} },
		"9 disks":         func(c *vmm.Config) { c.Disks = make([]vmm.Disk, 9) },
		"9 shares":        func(c *vmm.Config) { c.Shares = make([]vmm.Share, 9) },
		"twice":           func(c *vmm.Config) { c.Shares = []vmm.Share{{Tag: "a", Socket: "/a"}, {Tag: "a", Socket: "/b"}} },
		"the tag":         func(c *vmm.Config) { c.Shares = []vmm.Share{{Tag: strings.Repeat("a", 37), Socket: "/a"}} },
		"socket path":     func(c *vmm.Config) { c.Dir = "/" + strings.Repeat("d", 100) },
		"one line":        func(c *vmm.Config) { c.Cmdline = "a\nb" },
		`kernel ""`:       func(c *vmm.Config) { c.Kernel = "" },
	} {
		c := sample()
		spoil(&c)
		if err := validate(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
