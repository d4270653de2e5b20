package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
)

// maxKernel bounds a kernel, compressed or not: one with all its debugging
// information is a little smaller.
const maxKernel = 1 << 30

// writeVmlinux reads a kernel in any of the forms it is shipped in and writes
// to out the form that a monitor starts directly: an ELF for amd64, an Image
// for arm64.
func writeVmlinux(out *os.File, data []byte, goarch string) error {
	payload, size, err := locate(data, goarch)
	if err != nil {
		return err
	}
	if size < 0 {
		size = maxKernel
	}
	if _, err := detect(payload); errors.Is(err, errUnknownFormat) {
		_, err = out.Write(payload)
		if err != nil {
			return err
		}
		return checkImage(out, goarch)
	}
	n, err := decompress(out, payload, size)
	if err != nil {
		return fmt.Errorf("cannot unpack the kernel: %w", err)
	}
	if size != maxKernel && n != size {
		return fmt.Errorf("cannot unpack the kernel: it says that it has %d bytes, and has %d", size, n)
	}
	return checkImage(out, goarch)
}

// headerEnd is behind what is read of a boot header.
const headerEnd = 0x250

// locate finds the kernel proper in a file; size is that of the unpacked
// kernel, -1 when the file doesn't say.
func locate(data []byte, goarch string) (payload []byte, size int64, err error) {
	switch {
	case len(data) < headerEnd:
		return nil, 0, errors.New("the file is too short for a kernel")
	case goarch == "amd64" && string(data[0x202:0x206]) == "HdrS":
		return bootPayload(data)
	case goarch == "arm64" && string(data[:2]) == "MZ" && string(data[4:8]) == "zimg":
		return zbootPayload(data)
	}
	return data, -1, nil
}

// bootPayload reads the x86 boot header (Documentation/arch/x86/boot.rst):
// the kernel proper lies behind the real-mode code, followed, unless it is
// gzip, which ends with that itself, by its unpacked size.
func bootPayload(data []byte) ([]byte, int64, error) {
	le := binary.LittleEndian
	if version := le.Uint16(data[0x206:]); version < 0x0208 {
		return nil, 0, fmt.Errorf("the kernel's boot protocol %d.%02d is too old to say where its code is", version>>8, version&0xff)
	}
	sectors := int64(data[0x1f1])
	if sectors == 0 {
		sectors = 4
	}
	start := (sectors+1)*512 + int64(le.Uint32(data[0x248:]))
	length := int64(le.Uint32(data[0x24c:]))
	if length < 8 || start+length > int64(len(data)) {
		return nil, 0, errors.New("the kernel's boot header points outside of the file")
	}
	payload := data[start : start+length]
	size := int64(le.Uint32(payload[length-4:]))
	if bytes.HasPrefix(payload, []byte(elf.ELFMAG)) {
		return payload, -1, nil
	}
	if size > maxKernel {
		return nil, 0, fmt.Errorf("the kernel claims to have %d bytes", size)
	}
	if c, err := detect(payload); err == nil && c.name == "gzip" {
		return payload, size, nil
	}
	return payload[:length-4], size, nil
}

// zbootPayload reads the header of a self-unpacking EFI image
// (drivers/firmware/efi/libstub/zboot-header.S).
func zbootPayload(data []byte) ([]byte, int64, error) {
	start := int64(binary.LittleEndian.Uint32(data[8:]))
	length := int64(binary.LittleEndian.Uint32(data[12:]))
	if length == 0 || start+length > int64(len(data)) {
		return nil, 0, errors.New("the kernel's boot header points outside of the file")
	}
	return data[start : start+length], -1, nil
}

// checkImage makes sure that f is a kernel that this machine's monitor can
// start.
func checkImage(f *os.File, goarch string) error {
	switch goarch {
	case "amd64":
		return checkELF(f)
	case "arm64":
		return checkArm64(f)
	}
	return fmt.Errorf("guests on %s are not supported", goarch)
}

// checkArm64 looks for the magic number of Documentation/arch/arm64/booting.rst.
func checkArm64(f io.ReaderAt) error {
	var head [64]byte
	if _, err := f.ReadAt(head[:], 0); err != nil || string(head[56:60]) != "ARM\x64" {
		return errors.New("it is not a kernel for arm64; give the file arch/arm64/boot/Image of its build, or vmlinuz")
	}
	return nil
}

func checkELF(f io.ReaderAt) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("it is not a kernel for amd64 (neither vmlinux nor bzImage): %w", err)
	}
	if e.Class != elf.ELFCLASS64 || e.Machine != elf.EM_X86_64 {
		return fmt.Errorf("it is a kernel for %s, this machine needs one for x86-64", e.Machine)
	}
	loadable := false
	for _, p := range e.Progs {
		if p.Type == elf.PT_LOAD {
			loadable = true
		}
		if p.Type == elf.PT_NOTE && hasPVH(p) {
			return nil
		}
	}
	if !loadable {
		return errors.New("it is an ELF file, but not a kernel: nothing in it can be loaded")
	}
	return errors.New("it has no PVH entry; build the kernel with CONFIG_PVH=y")
}

// hasPVH looks for the note by which a monitor finds the 32-bit entry point:
// XEN_ELFNOTE_PHYS32_ENTRY in include/xen/interface/elfnote.h.
func hasPVH(p *elf.Prog) bool {
	const physEntry = 18
	notes := make([]byte, min(p.Filesz, 1<<20))
	if _, err := p.ReadAt(notes, 0); err != nil {
		return false
	}
	align := func(n uint32) int64 { return (int64(n) + 3) &^ 3 }
	for len(notes) >= 12 {
		name, desc := binary.LittleEndian.Uint32(notes), binary.LittleEndian.Uint32(notes[4:])
		kind := binary.LittleEndian.Uint32(notes[8:])
		end := 12 + align(name) + align(desc)
		if end > int64(len(notes)) {
			return false
		}
		if kind == physEntry && name == 4 && string(notes[12:15]) == "Xen" {
			return true
		}
		notes = notes[end:]
	}
	return false
}

// banner is how a kernel introduces itself; the release is what uname -r says.
var banner = regexp.MustCompile(`Linux version ([0-9]+\.[0-9]+[0-9A-Za-z.+~_-]*) \(`)

// release finds the release of an unpacked kernel.
func release(kernel io.Reader) (string, error) {
	const overlap = 256
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(kernel, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if m := banner.FindSubmatch(buf); m != nil {
			return string(m[1]), nil
		}
		if err != nil {
			return "", errors.New("it does not say which release of Linux it is")
		}
		keep := copy(buf[:overlap], buf[len(buf)-overlap:])
		buf = buf[:keep]
	}
}
