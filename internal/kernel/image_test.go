package kernel

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// bzImage wraps a payload, followed by size, in an x86 boot header.
func bzImage(payload []byte, size int) []byte {
	const sectors = 2
	le := binary.LittleEndian
	out := make([]byte, (sectors+1)*512+64)
	out[0x1f1] = sectors
	copy(out[0x202:], "HdrS")
	le.PutUint16(out[0x206:], 0x020f)
	le.PutUint32(out[0x248:], 64)
	if size >= 0 {
		payload = le.AppendUint32(bytes.Clone(payload), uint32(size))
	}
	le.PutUint32(out[0x24c:], uint32(len(payload)))
	return append(append(out, payload...), "behind"...)
}

func zboot(payload []byte) []byte {
	out := make([]byte, 512)
	copy(out, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(out[8:], 512)
	binary.LittleEndian.PutUint32(out[12:], uint32(len(payload)))
	return append(append(out, payload...), make([]byte, 600)...)
}

func pack(t testing.TB, format string, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case "gzip":
		w = gzip.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "lz4":
		l := lz4.NewWriter(&b)
		err = l.Apply(lz4.LegacyOption(true))
		w = l
	case "zstd":
		w, err = zstd.NewWriter(&b)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestWriteVmlinux(t *testing.T) {
	kernel := vmlinux()
	arm := append(make([]byte, 56), "ARM\x64"+strings.Repeat("code", 200)...)
	noPVH := elfFile([]elf.Prog64{{Type: uint32(elf.PT_LOAD)}}, [][]byte{make([]byte, 900)}, nil)
	other := bytes.Clone(kernel)
	binary.LittleEndian.PutUint16(other[18:], uint16(elf.EM_AARCH64))
	badNote := elfFile([]elf.Prog64{{Type: uint32(elf.PT_NOTE)}}, [][]byte{bytes.Repeat([]byte{0xff}, 900)}, nil)
	gz := pack(t, "gzip", kernel)
	old := bzImage(pack(t, "zstd", kernel), len(kernel))
	binary.LittleEndian.PutUint16(old[0x206:], 0x0201)
	outside := bzImage(pack(t, "zstd", kernel), len(kernel))
	binary.LittleEndian.PutUint32(outside[0x24c:], 1<<31)

	tests := []struct {
		name, arch string
		in, want   []byte
		fails      string
	}{
		{"vmlinux", "amd64", kernel, kernel, ""},
		{"vmlinux.gz", "amd64", append(bytes.Clone(gz), make([]byte, 600)...), kernel, ""},
		{"bzImage, gzip", "amd64", bzImage(gz, -1), kernel, ""},
		{"bzImage, xz", "amd64", bzImage(pack(t, "xz", kernel), len(kernel)), kernel, ""},
		{"bzImage, lz4", "amd64", bzImage(pack(t, "lz4", kernel), len(kernel)), kernel, ""},
		{"bzImage, zstd", "amd64", bzImage(pack(t, "zstd", kernel), len(kernel)), kernel, ""},
		{"bzImage, not compressed", "amd64", bzImage(kernel, len(kernel)), nil, ""},
		{"bzImage, bzip2", "amd64", bzImage([]byte("BZh9 and so on"), 1), nil, "compressed with bzip2"},
		{"bzImage, unknown format", "amd64", bzImage([]byte("junk and more"), 1), nil, "neither vmlinux nor bzImage"},
		{"bzImage, larger than it says", "amd64", bzImage(pack(t, "zstd", kernel), len(kernel)-1), nil, "more than"},
		{"bzImage, smaller than it says", "amd64", bzImage(pack(t, "zstd", kernel), len(kernel)+1), nil, "says that it has"},
		{"bzImage, claims too much", "amd64", bzImage(pack(t, "zstd", kernel), 1<<31), nil, "claims"},
		{"bzImage, cut short", "amd64", bzImage(pack(t, "zstd", kernel)[:60], len(kernel)), nil, "cannot unpack"},
		{"bzImage, old protocol", "amd64", old, nil, "too old"},
		{"bzImage, payload outside", "amd64", outside, nil, "outside of the file"},
		{"no PVH entry", "amd64", noPVH, nil, "CONFIG_PVH"},
		{"damaged notes", "amd64", badNote, nil, "nothing in it can be loaded"},
		{"another machine", "amd64", other, nil, "this machine needs one for x86-64"},
		{"text", "amd64", bytes.Repeat([]byte("text "), 200), nil, "not a kernel"},
		{"too short", "amd64", []byte("x"), nil, "too short"},
		{"Image", "arm64", arm, arm, ""},
		{"Image.gz", "arm64", append(pack(t, "gzip", arm), make([]byte, 600)...), arm, ""},
		{"zboot", "arm64", zboot(pack(t, "gzip", arm)), arm, ""},
		{"zboot, outside", "arm64", zboot(nil), nil, "outside of the file"},
		{"an x86 kernel", "arm64", kernel, nil, "not a kernel for arm64"},
		{"another architecture", "s390x", kernel, nil, "not supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, err := os.Create(filepath.Join(t.TempDir(), "vmlinux"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			err = writeVmlinux(f, tt.in, tt.arch)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got, _ := os.ReadFile(f.Name())
			if tt.want != nil && !bytes.Equal(got, tt.want) {
				t.Error("the kernel that came out differs")
			}
		})
	}
}

// The kernel's own build passes x86 code through a filter before xz.
func TestFilteredXZ(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip(err)
	}
	kernel := vmlinux()
	cmd := exec.Command("xz", "--check=crc32", "--x86", "--lzma2=dict=32MiB")
	cmd.Stdin = bytes.NewReader(kernel)
	packed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := decompress(&out, packed, maxKernel); err != nil || !bytes.Equal(out.Bytes(), kernel) {
		t.Errorf("got %d bytes, %v", out.Len(), err)
	}
	if _, err := decompress(io.Discard, packed, 10); err == nil || !strings.Contains(err.Error(), "more than the 10 bytes") {
		t.Errorf("over the limit: %v", err)
	}
}

func TestRelease(t *testing.T) {
	far := append(make([]byte, 1<<20-20), "Linux version 6.1.0-9-cloud-amd64 (x) "...) // across two reads
	if got, err := release(bytes.NewReader(far)); err != nil || got != "6.1.0-9-cloud-amd64" {
		t.Error(got, err)
	}
	if got, err := release(strings.NewReader("Linux version %s (nothing)")); err == nil {
		t.Error(got)
	}
	if got, err := release(strings.NewReader("Linux version 6.1/../../x (y)")); err == nil {
		t.Error(got)
	}
}

func FuzzKernelImage(f *testing.F) {
	kernel := vmlinux()
	for _, format := range []string{"gzip", "xz", "lz4", "zstd"} {
		f.Add(bzImage(pack(f, format, kernel), len(kernel)))
	}
	f.Add(kernel)
	f.Add(zboot(kernel))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, arch := range []string{"amd64", "arm64"} {
			payload, size, err := locate(data, arch)
			if err != nil {
				continue
			}
			if size < 0 || size > 1<<20 {
				size = 1 << 20
			}
			var out bytes.Buffer
			if c, err := detect(payload); err == nil && c.name != "xz" {
				_, _ = decompress(&out, payload, size)
			} else if err == nil {
				_, _ = plainXZ(payload)
			}
			if int64(out.Len()) > size+1 {
				t.Errorf("%d bytes came out, %d are allowed", out.Len(), size)
			}
		}
		_ = checkELF(bytes.NewReader(data))
		_ = checkArm64(bytes.NewReader(data))
		_, _ = release(bytes.NewReader(data))
	})
}
