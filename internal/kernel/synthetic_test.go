package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// section is a part of a synthetic ELF file.
type section struct {
	name string
	kind elf.SectionType
	data []byte
	link uint32
	size uint64 // of one entry
}

// elfFile writes a 64-bit little-endian ELF for x86-64 with these program
// headers (whose data is appended) and sections.
func elfFile(progs []elf.Prog64, progData [][]byte, sections []section) []byte {
	le := binary.LittleEndian
	var names, body bytes.Buffer
	names.WriteByte(0)
	const header, progSize = 64, 56
	at := uint64(header + progSize*len(progs))
	for i := range progs {
		progs[i].Off = at + uint64(body.Len())
		progs[i].Filesz = uint64(len(progData[i]))
		body.Write(progData[i])
	}
	table := []elf.Section64{{}}
	sections = append(sections, section{name: ".shstrtab", kind: elf.SHT_STRTAB})
	for _, s := range sections {
		h := elf.Section64{Name: uint32(names.Len()), Type: uint32(s.kind), Link: s.link, Entsize: s.size}
		names.WriteString(s.name + "\x00")
		if s.name == ".shstrtab" {
			s.data = names.Bytes()
		}
		h.Off, h.Size = at+uint64(body.Len()), uint64(len(s.data))
		body.Write(s.data)
		table = append(table, h)
	}
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: header,
		Phoff: header, Phentsize: progSize, Phnum: uint16(len(progs)),
		Shoff: at + uint64(body.Len()), Shentsize: 64, Shnum: uint16(len(table)), Shstrndx: uint16(len(table) - 1),
	}
	copy(h.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	var out bytes.Buffer
	for _, part := range []any{h, progs, body.Bytes(), table} {
		if err := binary.Write(&out, le, part); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

// note is an ELF note with a 4-byte name.
func note(name string, kind uint32, desc []byte) []byte {
	out := binary.LittleEndian.AppendUint32(nil, 4)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(desc)))
	out = binary.LittleEndian.AppendUint32(out, kind)
	return append(append(out, name+"\x00"...), desc...)
}

const testRelease = "6.12.1-test"

// vmlinux is what checkELF takes for a kernel.
func vmlinux() []byte {
	notes := append(note("Abc", 1, make([]byte, 8)), note("Xen", 18, make([]byte, 8))...)
	code := []byte("\x00Linux version " + testRelease + " (builder) #1\x00" + strings.Repeat("code", 250))
	return elfFile([]elf.Prog64{{Type: uint32(elf.PT_LOAD)}, {Type: uint32(elf.PT_NOTE)}}, [][]byte{code, notes}, nil)
}

// koFile is a module with this .modinfo, given as "key=value" strings, which
// exports symbols.
func koFile(info []string, symbols ...string) []byte {
	strtab := []byte{0}
	symtab := make([]byte, elf.Sym64Size)
	for _, s := range symbols {
		sym := elf.Sym64{Name: uint32(len(strtab))}
		strtab = append(strtab, "__ksymtab_"+s+"\x00"...)
		symtab, _ = binary.Append(symtab, binary.LittleEndian, sym)
	}
	return elfFile(nil, nil, []section{
		{name: ".modinfo", kind: elf.SHT_PROGBITS, data: []byte(strings.Join(info, "\x00") + "\x00")},
		{name: ".symtab", kind: elf.SHT_SYMTAB, data: symtab, link: 3, size: elf.Sym64Size},
		{name: ".strtab", kind: elf.SHT_STRTAB, data: strtab},
	})
}

// modulesDir writes a lib/modules/RELEASE as a kernel before 6.12 would have
// it: nearly nothing is built in.
func modulesDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), testRelease)
	write := func(name string, data []byte) {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("modules.builtin", []byte("kernel/drivers/virtio/virtio.ko\nkernel/drivers/virt/vmgenid.ko\n"))
	write("modules.builtin.modinfo", []byte("virtio.license=GPL\x00virtio.alias=some-alias\x00"))
	write("modules.order", []byte("kernel/fs/ext4/ext4.ko\nkernel/fs/jbd2/jbd2.ko\n"))
	for name, ko := range map[string][]byte{
		"drivers/virtio/virtio_pci.ko":         koFile([]string{"depends=virtio_ring,virtio"}),
		"drivers/virtio/virtio_ring.ko":        koFile([]string{"depends="}, "vring_create"),
		"drivers/virtio/virtio_balloon.ko":     koFile([]string{"depends=virtio_ring"}),
		"drivers/char/virtio_console.ko":       koFile([]string{"depends=virtio_ring"}),
		"drivers/char/hw_random/virtio-rng.ko": koFile([]string{"depends=rng-core"}),
		"drivers/char/hw_random/rng-core.ko":   koFile([]string{"license=GPL"}),
		"drivers/block/virtio_blk.ko":          koFile([]string{"depends=virtio_ring", "alias=virtio:d00000002v*"}),
		"fs/ext4/ext4.ko":                      koFile([]string{"depends=jbd2", "softdep=pre: crc32c post: other", "alias=fs-ext4"}),
		"fs/jbd2/jbd2.ko":                      koFile([]string{"depends="}),
		"crypto/crc32c_generic.ko":             koFile([]string{"alias=crc32c", "alias=crypto-crc32c"}),
		"fs/fuse/fuse.ko":                      koFile([]string{"alias=char-major-10-229", "alias=devname:fuse"}),
		"fs/fuse/virtiofs.ko":                  koFile([]string{"depends=fuse,virtio_ring"}),
		"net/unrelated.ko":                     koFile([]string{"depends=fuse"}),
	} {
		write(filepath.Join("kernel", name), ko)
	}
	if err := os.Symlink("/nonexistent", filepath.Join(dir, "build")); err != nil {
		t.Fatal(err)
	}
	return dir
}
