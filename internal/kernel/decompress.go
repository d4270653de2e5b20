package kernel

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// compression is a format of compressed data, told by its first bytes.
type compression struct {
	name  string
	magic string
	open  func(data []byte) (io.ReadCloser, error)
}

// compressions are the formats in which kernels and modules come. The kernel's
// LZ4 is the legacy frame format of the lz4 tool.
var compressions = []compression{
	{"gzip", "\x1f\x8b\x08", openGzip},
	{"xz", "\xfd7zXZ\x00", openXZ},
	{"lz4", "\x02\x21\x4c\x18", openLZ4},
	{"zstd", "\x28\xb5\x2f\xfd", openZstd},
	{"bzip2", "BZh", nil},
	{"lzma", "\x5d\x00\x00", nil},
	{"lzo", "\x89LZO", nil},
}

// maxWindow bounds the memory of a decompressor: the kernel's own build uses
// windows of up to 128 MiB.
const maxWindow = 128 << 20

var errUnknownFormat = errors.New("its compression format is not known")

func detect(data []byte) (compression, error) {
	for _, c := range compressions {
		if !bytes.HasPrefix(data, []byte(c.magic)) {
			continue
		}
		if c.open == nil {
			return c, fmt.Errorf("it is compressed with %s; recompress it with gzip, xz, lz4 or zstd", c.name)
		}
		return c, nil
	}
	return compression{}, errUnknownFormat
}

// decompress writes what data holds to w, at most limit bytes: more is an
// error.
func decompress(w io.Writer, data []byte, limit int64) (int64, error) {
	c, err := detect(data)
	if err != nil {
		return 0, err
	}
	r, err := c.open(data)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", c.name, err)
	}
	n, err := io.Copy(w, io.LimitReader(r, limit+1))
	closeErr := r.Close()
	switch {
	case n > limit:
		return n, fmt.Errorf("%s: more than the %d bytes allowed come out of it", c.name, limit)
	case err != nil:
		return n, fmt.Errorf("%s: %w", c.name, err)
	case closeErr != nil:
		return n, fmt.Errorf("%s: %w", c.name, closeErr)
	}
	return n, nil
}

func openGzip(data []byte) (io.ReadCloser, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	r.Multistream(false)
	return r, nil
}

func openLZ4(data []byte) (io.ReadCloser, error) {
	return io.NopCloser(lz4.NewReader(bytes.NewReader(data))), nil
}

func openZstd(data []byte) (io.ReadCloser, error) {
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return r.IOReadCloser(), nil
}

// openXZ reads xz in Go where it can. The kernel's own image on x86 is passed
// through a filter for jumps (BCJ), which only the xz program knows.
func openXZ(data []byte) (io.ReadCloser, error) {
	plain, err := plainXZ(data)
	if err != nil {
		return nil, err
	}
	if plain {
		r, err := xz.ReaderConfig{SingleStream: true}.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return io.NopCloser(r), nil
	}
	program, err := exec.LookPath("xz")
	if err != nil {
		return nil, errors.New("it needs the program xz; install the package xz-utils")
	}
	return startFilter(exec.Command(program, "--decompress", "--stdout", "--single-stream", "--memlimit=512MiB"), data)
}

// plainXZ reads the header of the first block (xz file format, section 3.1):
// is LZMA2, with a dictionary of bearable size, its only filter?
func plainXZ(data []byte) (bool, error) {
	const streamHeader = 12
	if len(data) < streamHeader+4 || data[streamHeader] == 0 {
		return false, io.ErrUnexpectedEOF
	}
	b := data[streamHeader:]
	flags := b[1]
	if flags&0x03 != 0 { // number of filters minus one
		return false, nil
	}
	pos := 2
	for _, present := range []byte{0x40, 0x80} { // two optional sizes
		if flags&present == 0 {
			continue
		}
		for pos < len(b) && b[pos]&0x80 != 0 {
			pos++
		}
		pos++
	}
	if pos+3 > len(b) || b[pos] != 0x21 || b[pos+1] != 1 {
		return false, errors.New("its filter is not LZMA2")
	}
	// (2 | bit 0) << (bits/2 + 11): 32 is 128 MiB.
	if b[pos+2] > 32 {
		return false, fmt.Errorf("its dictionary is larger than %d MiB", maxWindow>>20)
	}
	return true, nil
}

// filter is a program that reads data and whose output is read here.
type filter struct {
	io.Reader
	cmd    *exec.Cmd
	pipe   io.ReadCloser
	stderr *bytes.Buffer
}

func startFilter(cmd *exec.Cmd, data []byte) (io.ReadCloser, error) {
	f := &filter{cmd: cmd, stderr: &bytes.Buffer{}}
	cmd.Stdin, cmd.Stderr = bytes.NewReader(data), f.stderr
	var err error
	if f.pipe, err = cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	f.Reader = f.pipe
	return f, cmd.Start()
}

// Close waits for the program; one that is not read to its end fails.
func (f *filter) Close() error {
	f.pipe.Close()
	if err := f.cmd.Wait(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(f.stderr.String()))
	}
	return nil
}
