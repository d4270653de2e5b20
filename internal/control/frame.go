package control

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// Every byte on the port travels in a frame, except for the zero filler with
// which a host joins. A frame's header, big-endian:
//
//	 0  magic     4 bytes
//	 4  kind      1
//	 5  zero      1
//	 6  length    2, of the payload
//	 8  session   8, chosen at random by the host
//	16  checksum  4, CRC-32 (IEEE) of the 16 bytes before
//
// The checksum covers the header alone: it is there to find the next frame in
// the remains of an earlier session, not to guard against bit errors.
const (
	headerSize = 20
	// maxFrame is the largest piece that Linux's virtio_console driver writes
	// at once; a larger frame would cost a second one.
	maxFrame   = 32 << 10
	maxPayload = maxFrame - headerSize
)

var magic = []byte{0xF5, 's', 'b', 'x'}

type kind byte

const (
	kindHello kind = 1 + iota // host: a new session begins
	kindAck                   // guest: it has
	kindData                  // either
	kindBye                   // either: the session is over
)

type header struct {
	kind    kind
	length  int
	session uint64
}

var errOutOfSync = errors.New("bytes on the control port that are no frame")

func (h header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = append(b, byte(h.kind), 0)
	b = binary.BigEndian.AppendUint16(b, uint16(h.length))
	b = binary.BigEndian.AppendUint64(b, h.session)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

// parseHeader reads the header at the start of b, which holds headerSize bytes
// at least, and reports whether there is a valid one.
func parseHeader(b []byte) (h header, ok bool) {
	b = b[:headerSize]
	if !bytes.Equal(b[:4], magic) || crc32.ChecksumIEEE(b[:16]) != binary.BigEndian.Uint32(b[16:]) {
		return header{}, false
	}
	h = header{
		kind:    kind(b[4]),
		length:  int(binary.BigEndian.Uint16(b[6:])),
		session: binary.BigEndian.Uint64(b[8:]),
	}
	ok = h.kind >= kindHello && h.kind <= kindBye && b[5] == 0 && h.length <= maxPayload &&
		(h.kind == kindData || h.length == 0)
	return h, ok
}

// frameReader takes frames out of a byte stream. Its memory is one fixed
// buffer, whatever the other end sends.
type frameReader struct {
	r          io.Reader
	buf        []byte
	start, end int // buf[start:end] is read and not used yet
	left       int // bytes of the present frame's payload still to come
}

func newFrameReader(r io.Reader) *frameReader {
	return &frameReader{r: r, buf: make([]byte, 2*maxFrame)}
}

// fill reads once, leaving at least one byte more in the buffer.
func (f *frameReader) fill() error {
	if f.start == f.end {
		f.start, f.end = 0, 0
	} else if f.end == len(f.buf) {
		f.end = copy(f.buf, f.buf[f.start:f.end])
		f.start = 0
	}
	n, err := f.r.Read(f.buf[f.end:])
	f.end += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// next returns the header at the present position, an error if there is none.
func (f *frameReader) next() (header, error) {
	if err := f.need(headerSize); err != nil {
		return header{}, err
	}
	h, ok := parseHeader(f.buf[f.start:])
	if !ok {
		return header{}, errOutOfSync
	}
	f.start += headerSize
	f.left = h.length
	return h, nil
}

// scan returns the next valid header wherever it begins, skipping all else.
func (f *frameReader) scan() (header, error) {
	for {
		h, err := f.next()
		if !errors.Is(err, errOutOfSync) {
			return h, err
		}
		f.start++
		if i := bytes.Index(f.buf[f.start:f.end], magic); i >= 0 {
			f.start += i
		} else if keep := f.end - (len(magic) - 1); keep > f.start {
			f.start = keep // what may be the beginning of the magic
		}
	}
}

func (f *frameReader) need(n int) error {
	for f.end-f.start < n {
		if err := f.fill(); err != nil {
			return err
		}
	}
	return nil
}

// payload returns the part of the present frame's payload that is there,
// reading only if there is none; it is valid until the next call of a method.
func (f *frameReader) payload() ([]byte, error) {
	if f.start == f.end {
		if err := f.fill(); err != nil {
			return nil, err
		}
	}
	n := min(f.left, f.end-f.start)
	p := f.buf[f.start : f.start+n]
	f.start += n
	f.left -= n
	return p, nil
}

// read copies a part of the present frame's payload, past the buffer if it can.
func (f *frameReader) read(b []byte) (int, error) {
	b = b[:min(len(b), f.left)]
	if f.start == f.end && len(b) >= 4096 {
		n, err := f.r.Read(b)
		f.left -= n
		return n, err
	}
	if f.start == f.end {
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(b, f.buf[f.start:f.end])
	f.start += n
	f.left -= n
	return n, nil
}

// skip discards the rest of the present frame's payload.
func (f *frameReader) skip() error {
	for f.left > 0 {
		if _, err := f.payload(); err != nil {
			return err
		}
	}
	return nil
}

// frameWriter puts one session's bytes into frames, each in one Write. It is
// not safe for concurrent use.
type frameWriter struct {
	w       io.Writer
	session uint64
	buf     []byte // a header's room, then payload
}

func newFrameWriter(w io.Writer, session uint64) *frameWriter {
	return &frameWriter{w: w, session: session, buf: make([]byte, headerSize, maxFrame)}
}

// write sends p; with more set, the last, incomplete frame is kept back,
// because another write follows at once.
func (f *frameWriter) write(p []byte, more bool) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), cap(f.buf)-len(f.buf))
		f.buf = append(f.buf, p[:k]...)
		p, n = p[k:], n+k
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return n, err
			}
		}
	}
	if more || len(f.buf) == headerSize {
		return n, nil
	}
	return n, f.flush()
}

func (f *frameWriter) flush() error {
	h := header{kind: kindData, length: len(f.buf) - headerSize, session: f.session}
	h.append(f.buf[:0])
	frame := f.buf
	f.buf = f.buf[:headerSize]
	if _, err := f.w.Write(frame); err != nil {
		return fmt.Errorf("write to the control port: %w", err)
	}
	return nil
}

// control sends a frame that is all header.
func (f *frameWriter) control(k kind) error {
	return writeControl(f.w, k, f.session)
}

func writeControl(w io.Writer, k kind, session uint64) error {
	b := header{kind: k, session: session}.append(make([]byte, 0, headerSize))
	_, err := w.Write(b)
	return err
}
