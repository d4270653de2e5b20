package ext4

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"
)

// extent is a run of blocks of a file.
type extent struct{ logical, physical, length uint32 }

// writer makes one image. Data goes out as it comes; metadata, which depends
// on all of it, in finish.
type writer struct {
	f       *os.File
	opts    Options
	layout  layout
	seed    uint32 // of all checksums
	now     stamp
	tree    *tree
	pending []pendingLink
	content int64 // sum of the sizes of files read

	next uint32   // first block that was never given out
	used []uint64 // bitmap of data blocks in use

	buf   []byte // data to be written
	bufAt int64  // and where

	chunk []byte // scratch space of writeContent
}

const (
	flushSize = 1 << 20
	// holeSize is how long a run of zeros must be to become a hole: shorter
	// ones would save little and break a file into many extents.
	holeSize = 64 << 10
)

func newWriter(f *os.File, o Options) *writer {
	w := &writer{f: f, opts: o, layout: layout{flexLog: flexLogWritable}, now: stampOf(time.Now())}
	if o.ReadOnly {
		w.layout.flexLog = flexLogReadOnly
	}
	w.seed = crc(^uint32(0), o.UUID[:])
	w.tree = newTree(o.MaxFiles, func(n *node) { w.release(n.extents) })
	w.chunk = make([]byte, holeSize)
	return w
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crc is CRC-32C as ext4 uses it: without the inversions at start and end.
func crc(c uint32, p []byte) uint32 { return ^crc32.Update(^c, castagnoli, p) }

// errFull says that the image would exceed what MaxSize allows for, which
// entries of many tiny files can, or the format.
var errFull = errors.New("the content does not fit into the largest image allowed")

// alloc gives out n blocks, or the run of them that comes before the next
// metadata.
func (w *writer) alloc(n uint32) (first, got uint32, err error) {
	g := w.next / blocksPerGroup
	if start := g*blocksPerGroup + w.layout.prefix(g); w.next < start {
		w.next = start
	}
	// In a large flexible group of a small image the prefix may cross into
	// the next group only if a group were smaller than it, which none is.
	end := (g + 1) * blocksPerGroup
	first, got = w.next, min(n, end-w.next)
	w.next += got
	if w.next > 1<<32-2*blocksPerGroup {
		return 0, 0, errFull
	}
	w.mark(first, got, true)
	return first, got, nil
}

func (w *writer) mark(first, n uint32, used bool) {
	for b := first; b < first+n; b++ {
		for int(b/64) >= len(w.used) {
			w.used = append(w.used, make([]uint64, blocksPerGroup/64)...)
		}
		if used {
			w.used[b/64] |= 1 << (b % 64)
		} else {
			w.used[b/64] &^= 1 << (b % 64)
		}
	}
}

func (w *writer) release(all []extent) {
	for _, e := range all {
		w.mark(e.physical, e.length, false)
	}
}

// store writes whole blocks as the part of a file that starts at logical.
func (w *writer) store(all []extent, logical uint32, data []byte) ([]extent, error) {
	for len(data) > 0 {
		first, n, err := w.alloc(uint32(len(data) / blockSize))
		if err != nil {
			return nil, err
		}
		if err := w.put(first, data[:n*blockSize]); err != nil {
			return nil, err
		}
		all = appendExtent(all, extent{logical, first, n})
		logical, data = logical+n, data[n*blockSize:]
	}
	return all, nil
}

func appendExtent(all []extent, e extent) []extent {
	if n := len(all); n > 0 {
		last := &all[n-1]
		if last.logical+last.length == e.logical && last.physical+last.length == e.physical &&
			last.length+e.length <= maxExtentBlocks {
			last.length += e.length
			return all
		}
	}
	return append(all, e)
}

// put writes at a block; writes that follow one another go out together.
func (w *writer) put(block uint32, data []byte) error {
	at := int64(block) * blockSize
	if at != w.bufAt+int64(len(w.buf)) || len(w.buf) >= flushSize {
		if err := w.flush(); err != nil {
			return err
		}
		w.bufAt = at
	}
	w.buf = append(w.buf, data...)
	return nil
}

func (w *writer) flush() error {
	_, err := w.f.WriteAt(w.buf, w.bufAt)
	w.bufAt += int64(len(w.buf))
	w.buf = w.buf[:0]
	return err
}

// writeContent copies a file's content into blocks. Runs of zeros become
// holes.
func (w *writer) writeContent(ctx context.Context, r io.Reader, size int64) ([]extent, error) {
	var all []extent
	for at := int64(0); at < size; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := int(min(size-at, holeSize))
		if _, err := io.ReadFull(r, w.chunk[:n]); err != nil {
			return nil, fmt.Errorf("reading its content: %w", err)
		}
		if n < holeSize || !zero(w.chunk) {
			whole := (n + blockSize - 1) / blockSize * blockSize
			clear(w.chunk[n:whole])
			var err error
			if all, err = w.store(all, uint32(at/blockSize), w.chunk[:whole]); err != nil {
				return nil, err
			}
		}
		at += int64(n)
	}
	return all, nil
}

var zeros [holeSize]byte

func zero(p []byte) bool { return bytes.Equal(p, zeros[:len(p)]) }
