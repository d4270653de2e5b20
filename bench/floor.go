package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"runtime"

	"github.com/cavaliergopher/cpio"
)

// floorText is what the smallest possible PID 1 prints.
const floorText = "bench: PID 1 runs\n"

// writeFloor writes an initramfs whose /init is eight instructions that
// print floorText on the console and wait for ever: what comes before them is
// what no design of the guest can save.
func writeFloor(path string) error {
	code, err := floorCode(runtime.GOARCH)
	if err != nil {
		return err
	}
	init := floorELF(runtime.GOARCH, code)
	var buf bytes.Buffer
	w := cpio.NewWriter(&buf)
	if err := w.WriteHeader(&cpio.Header{Name: "init", Mode: cpio.TypeReg | 0o755, Size: int64(len(init))}); err != nil {
		return err
	}
	if _, err := w.Write(init); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return os.WriteFile(path, buf.Bytes(), 0o600)
}

// floorCode is write(1, text, len) and a wait, followed by the text.
func floorCode(goarch string) ([]byte, error) {
	var c bytes.Buffer
	n := uint32(len(floorText))
	switch goarch {
	case "amd64":
		c.Write([]byte{0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0, 0x48, 0x8d, 0x35}) // mov eax,1; mov edi,1; lea rsi,[rip+...]
		c.Write(le(16))                                                       // to after the jump
		c.WriteByte(0xba)                                                     // mov edx,n
		c.Write(le(n))
		c.Write([]byte{0x0f, 0x05})                                // syscall
		c.Write([]byte{0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7}) // pause() again and again
	case "arm64":
		for _, word := range []uint32{
			0xd2800020,         // mov x0, #1
			0x10000001 | 24<<3, // adr x1, text
			0xd2800002 | n<<5,  // mov x2, #n
			0xd2800808,         // mov x8, #64 (write)
			0xd4000001,         // svc #0
			0xd503207f,         // wfi
			0x17ffffff,         // b .-4
		} {
			c.Write(le(word))
		}
	default:
		return nil, fmt.Errorf("no floor for %s", goarch)
	}
	c.WriteString(floorText)
	return c.Bytes(), nil
}

func le(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }

// floorELF is a static executable (elf(5)) that is one segment of code.
func floorELF(goarch string, code []byte) []byte {
	const base, headers = 0x400000, 64 + 56
	machine := uint16(62) // EM_X86_64
	if goarch == "arm64" {
		machine = 183 // EM_AARCH64
	}
	var b bytes.Buffer
	b.Write([]byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	size := uint64(headers + len(code))
	for _, v := range []any{
		uint16(2), machine, uint32(1), // ET_EXEC
		uint64(base + headers), uint64(64), uint64(0), uint32(0), // entry, program headers
		uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000), // PT_LOAD, r-x
	} {
		binary.Write(&b, binary.LittleEndian, v)
	}
	b.Write(code)
	return b.Bytes()
}
