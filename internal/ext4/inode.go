package ext4

// Inode flags and fields; offsets are those of struct ext4_inode.
const (
	flagExtents     = 0x80000
	extentMagic     = 0xF30A
	extentEntry     = 12
	extentsInInode  = 4
	extentsInBlock  = (blockSize - extentEntry - 4) / extentEntry // 4: checksum
	fastLinkSize    = 60                                          // shorter targets live in the inode
	inodeCRCLow     = 0x7c
	inodeCRCHigh    = 0x82
	sectorsPerBlock = blockSize / 512
)

// seedOf is the start of the checksums of what belongs to an inode: its number
// and its generation, which is 0.
func (w *writer) seedOf(ino uint32) uint32 {
	var b [8]byte
	le.PutUint32(b[:], ino)
	return crc(w.seed, b[:])
}

// finishNode writes what a file needs beside its inode and data: long link
// targets, extent blocks, an attribute block.
func (w *writer) finishNode(n *node) error {
	var err error
	switch n.kind() {
	case typeLink:
		if len(n.target) < fastLinkSize {
			copy(n.iblock[:], n.target)
			break
		}
		data := make([]byte, blockSize)
		copy(data, n.target)
		if n.extents, err = w.store(nil, 0, data); err != nil {
			return err
		}
		err = w.finishExtents(n)
	case typeRegular, typeDir:
		err = w.finishExtents(n)
	case typeChar, typeBlock:
		putDevice(n)
	}
	if err != nil {
		return err
	}
	return w.finishXattrs(n)
}

// putDevice encodes a device number: the short form where it is enough.
func putDevice(n *node) {
	if n.major < 256 && n.minor < 256 {
		le.PutUint32(n.iblock[0:], n.major<<8|n.minor)
		return
	}
	le.PutUint32(n.iblock[4:], n.minor&0xff|n.major<<8|(n.minor&^0xff)<<12)
}

func (w *writer) finishXattrs(n *node) error {
	in, block, err := packXattrs(n.xattrs)
	if err != nil {
		return err
	}
	n.xattrIn = in
	if block == nil {
		return nil
	}
	b, _, err := w.alloc(1)
	if err != nil {
		return err
	}
	var number [8]byte
	le.PutUint64(number[:], uint64(b))
	le.PutUint32(block[16:], crc(crc(w.seed, number[:]), block))
	n.xattrRef = b
	n.blocks++
	return w.put(b, block)
}

// finishExtents builds the tree of a file's extents from the leaves up, until
// what is left fits into the inode.
func (w *writer) finishExtents(n *node) error {
	for _, e := range n.extents {
		n.blocks += uint64(e.length)
	}
	level := n.extents
	depth := uint16(0)
	for ; len(level) > extentsInInode; depth++ {
		var up []extent
		for len(level) > 0 {
			part := level[:min(len(level), extentsInBlock)]
			level = level[len(part):]
			data := make([]byte, blockSize)
			putExtents(data, part, extentsInBlock, depth)
			at := blockSize - 4
			le.PutUint32(data[at:], crc(w.seedOf(n.ino), data[:at]))
			b, _, err := w.alloc(1)
			if err != nil {
				return err
			}
			if err := w.put(b, data); err != nil {
				return err
			}
			n.blocks++
			up = append(up, extent{logical: part[0].logical, physical: b})
		}
		level = up
	}
	putExtents(n.iblock[:], level, extentsInInode, depth)
	return nil
}

// putExtents writes a node of the extent tree. Above depth 0 the entries
// point to nodes below; high halves of block numbers stay 0.
func putExtents(b []byte, all []extent, max, depth uint16) {
	le.PutUint16(b[0:], extentMagic)
	le.PutUint16(b[2:], uint16(len(all)))
	le.PutUint16(b[4:], max)
	le.PutUint16(b[6:], depth)
	for i, e := range all {
		p := b[extentEntry*(i+1):]
		le.PutUint32(p[0:], e.logical)
		if depth > 0 {
			le.PutUint32(p[4:], e.physical)
			continue
		}
		le.PutUint16(p[4:], uint16(e.length))
		le.PutUint32(p[8:], e.physical)
	}
}

// encode makes the inode.
func (w *writer) encode(n *node) []byte {
	b := make([]byte, inodeSize)
	le.PutUint16(b[0x00:], n.mode)
	le.PutUint16(b[0x02:], uint16(n.uid))
	le.PutUint32(b[0x04:], uint32(n.size))
	le.PutUint32(b[0x08:], uint32(n.atime.sec))
	le.PutUint32(b[0x0c:], uint32(n.ctime.sec))
	le.PutUint32(b[0x10:], uint32(n.mtime.sec))
	le.PutUint16(b[0x18:], uint16(n.gid))
	le.PutUint16(b[0x1a:], linkCount(n))
	sectors := n.blocks * sectorsPerBlock
	le.PutUint32(b[0x1c:], uint32(sectors))
	if k := n.kind(); k == typeRegular || k == typeDir || k == typeLink && len(n.extents) > 0 {
		le.PutUint32(b[0x20:], flagExtents)
	}
	copy(b[0x28:], n.iblock[:])
	le.PutUint32(b[0x68:], n.xattrRef)
	le.PutUint32(b[0x6c:], uint32(n.size>>32))
	le.PutUint16(b[0x74:], uint16(sectors>>32))
	le.PutUint16(b[0x78:], uint16(n.uid>>16))
	le.PutUint16(b[0x7a:], uint16(n.gid>>16))
	le.PutUint16(b[0x80:], extraISize)
	le.PutUint32(b[0x84:], n.ctime.extra())
	le.PutUint32(b[0x88:], n.mtime.extra())
	le.PutUint32(b[0x8c:], n.atime.extra())
	le.PutUint32(b[0x90:], uint32(w.now.sec)) // creation
	le.PutUint32(b[0x94:], w.now.extra())
	copy(b[128+extraISize:], n.xattrIn)
	sum := crc(w.seedOf(n.ino), b)
	le.PutUint16(b[inodeCRCLow:], uint16(sum))
	le.PutUint16(b[inodeCRCHigh:], uint16(sum>>16))
	return b
}

// linkCount is 1 for a directory with more entries than can be counted
// (dir_nlink).
func linkCount(n *node) uint16 {
	if !n.isDir() {
		return uint16(n.names)
	}
	links := 2
	for _, c := range n.children {
		if c.isDir() {
			links++
		}
	}
	if links >= maxLinks {
		return 1
	}
	return uint16(links)
}

// extra is the upper half of a time: two more bits of seconds, nanoseconds.
func (s stamp) extra() uint32 {
	return uint32((s.sec-int64(int32(s.sec)))>>32)&3 | s.nsec<<2
}
