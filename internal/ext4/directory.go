package ext4

import (
	"maps"
	"slices"
)

const (
	dirEntryHead = 8
	dirTail      = 12
	dirTailType  = 0xde
)

var dirTypes = map[uint16]byte{
	typeRegular: 1, typeDir: 2, typeChar: 3, typeBlock: 4, typeFIFO: 5, typeLink: 7,
}

// dirBlocks collects the entries of a directory into blocks. The last entry of
// a block takes what is left of it, up to the checksum.
type dirBlocks struct {
	data []byte
	at   int // end of the last entry
	last int // its start
}

const dirRoom = blockSize - dirTail

func (d *dirBlocks) add(ino uint32, kind uint16, name string) {
	size := dirEntryHead + align4(len(name))
	if len(d.data) == 0 || d.at%blockSize+size > dirRoom {
		d.close()
		d.at = len(d.data)
		d.data = append(d.data, make([]byte, blockSize)...)
	}
	e := d.data[d.at:]
	le.PutUint32(e[0:], ino)
	le.PutUint16(e[4:], uint16(size))
	e[6], e[7] = byte(len(name)), dirTypes[kind]
	copy(e[dirEntryHead:], name)
	d.last, d.at = d.at, d.at+size
}

func (d *dirBlocks) close() {
	if len(d.data) == 0 {
		return
	}
	le.PutUint16(d.data[d.last+4:], uint16(dirRoom-d.last%blockSize))
	tail := d.data[len(d.data)-dirTail:]
	le.PutUint16(tail[4:], dirTail)
	tail[7] = dirTailType
}

// writeDir writes a directory's entries; all inode numbers are known.
func (w *writer) writeDir(n *node) error {
	var d dirBlocks
	d.add(n.ino, typeDir, ".")
	d.add(n.parent.ino, typeDir, "..")
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		d.add(c.ino, c.kind(), name)
	}
	d.close()
	for b := d.data; len(b) > 0; b = b[blockSize:] {
		le.PutUint32(b[blockSize-4:], crc(w.seedOf(n.ino), b[:dirRoom]))
	}
	n.size = int64(len(d.data))
	var err error
	n.extents, err = w.store(nil, 0, d.data)
	return err
}
