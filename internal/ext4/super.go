package ext4

// Features, as in fs/ext4/ext4.h.
const (
	compatJournal  = 0x4
	compatXattr    = 0x8
	compatDirIndex = 0x20

	incompatFileType = 0x2
	incompatMetaBG   = 0x10
	incompatExtents  = 0x40
	incompat64bit    = 0x80
	incompatFlexBG   = 0x200

	roSparseSuper  = 0x1
	roLargeFile    = 0x2
	roHugeFile     = 0x8
	roDirNlink     = 0x20
	roExtraISize   = 0x40
	roMetadataCRC  = 0x400
	roReadOnly     = 0x1000
	superblockSize = 1024
	superblockAt   = 1024
)

// writeSupers writes the superblock, its copies, and the descriptor blocks.
func (w *writer) writeSupers(im *image) error {
	for g := range im.groups {
		at := int64(g) * groupSize
		if g == 0 {
			at = superblockAt
		}
		if hasSuper(g) {
			if _, err := w.f.WriteAt(w.superblock(im, g), at); err != nil {
				return err
			}
		}
		if hasDesc(g) {
			d := im.descriptors[g/groupsPerDesc*blockSize:][:blockSize]
			if err := w.put(w.layout.descBlock(g), d); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) superblock(im *image, group uint32) []byte {
	b := make([]byte, superblockSize)
	le.PutUint32(b[0x00:], im.groups*inodesPerGroup)
	le.PutUint32(b[0x04:], im.blocks)
	le.PutUint32(b[0x0c:], uint32(im.freeBlocks))
	le.PutUint32(b[0x10:], im.freeInodes)
	le.PutUint32(b[0x18:], 2) // block size: 1024 << 2
	le.PutUint32(b[0x1c:], 2) // cluster size
	le.PutUint32(b[0x20:], blocksPerGroup)
	le.PutUint32(b[0x24:], blocksPerGroup)
	le.PutUint32(b[0x28:], inodesPerGroup)
	le.PutUint32(b[0x30:], uint32(w.now.sec)) // written
	le.PutUint16(b[0x36:], 0xffff)            // mounts before a check: no limit
	le.PutUint16(b[0x38:], 0xef53)
	le.PutUint16(b[0x3a:], 1)                 // clean
	le.PutUint16(b[0x3c:], 1)                 // on errors: continue
	le.PutUint32(b[0x40:], uint32(w.now.sec)) // checked
	le.PutUint32(b[0x4c:], 1)                 // dynamic revision
	le.PutUint32(b[0x54:], firstInode)
	le.PutUint16(b[0x58:], inodeSize)
	le.PutUint16(b[0x5a:], uint16(group))
	compat, incompat, ro := w.features()
	le.PutUint32(b[0x5c:], compat)
	le.PutUint32(b[0x60:], incompat)
	le.PutUint32(b[0x64:], ro)
	copy(b[0x68:0x78], w.opts.UUID[:])
	copy(b[0x78:0x88], w.opts.Label)
	copy(b[0xec:0xfc], w.opts.UUID[:]) // seed of directory hashes
	b[0xfc] = 1                        // half MD4
	le.PutUint16(b[0xfe:], descSize)
	le.PutUint32(b[0x100:], 0xc)               // user_xattr, acl
	le.PutUint32(b[0x108:], uint32(w.now.sec)) // made
	le.PutUint16(b[0x15c:], extraISize)        // least
	le.PutUint16(b[0x15e:], extraISize)        // wanted
	le.PutUint32(b[0x160:], 1)                 // signed directory hash
	b[0x174] = byte(w.layout.flexLog)          // groups of a flexible one
	b[0x175] = 1                               // CRC-32C
	if j := im.journal; j != nil {
		le.PutUint32(b[0xe0:], journalInode)
		b[0xfd] = 1 // a copy of the journal's inode follows
		copy(b[0x10c:], j.iblock[:])
		le.PutUint32(b[0x148:], uint32(j.size>>32))
		le.PutUint32(b[0x14c:], uint32(j.size))
	}
	le.PutUint32(b[0x3fc:], crc(^uint32(0), b[:0x3fc]))
	return b
}

func (w *writer) features() (compat, incompat, ro uint32) {
	compat = compatXattr | compatDirIndex
	incompat = incompatFileType | incompatMetaBG | incompatExtents | incompat64bit | incompatFlexBG
	ro = roSparseSuper | roLargeFile | roHugeFile | roDirNlink | roExtraISize | roMetadataCRC
	if w.opts.ReadOnly {
		return compat, incompat, ro | roReadOnly
	}
	return compat | compatJournal, incompat, ro
}
