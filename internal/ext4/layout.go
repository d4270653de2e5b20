package ext4

// The geometry of an image. Blocks are 4 KiB, a group is 128 MiB. Each group
// starts with its metadata, and data fills what remains:
//
//	[superblock copy] groups 0, 1 and the powers of 3, 5 and 7 (sparse_super)
//	[descriptor block] the first two and the last group of every 64 (meta_bg)
//	[block bitmaps][inode bitmaps][inode tables] of all groups of a flexible
//	    group, in the first group of it (flex_bg)
//
// The size of the file system need not be known to place a block: what is set
// aside for groups that turn out not to exist becomes free space at the end.
const (
	blockSize         = 4096
	blocksPerGroup    = 8 * blockSize
	groupSize         = blocksPerGroup * blockSize
	inodeSize         = 256
	inodesPerGroup    = 8192 // one for 16 KiB, as mke2fs does
	tableBlocks       = inodesPerGroup * inodeSize / blockSize
	descSize          = 64
	groupsPerDesc     = blockSize / descSize
	maxExtentBlocks   = 1 << 15
	flexLogWritable   = 4
	flexLogReadOnly   = 0 // little images: no room set aside for other groups
	rootInode         = 2
	journalInode      = 8
	lostFoundInode    = 11
	firstInode        = 11
	maxLinks          = 65000
	maxInodes         = 1 << 31
	journalBlocks     = 64 << 20 / blockSize
	journalBlocksTiny = 16 << 20 / blockSize
	tinySize          = 512 << 20
)

// hasSuper says whether a group holds a copy of the superblock.
func hasSuper(group uint32) bool {
	if group <= 1 {
		return true
	}
	for _, base := range []uint64{3, 5, 7} {
		p := base
		for p < uint64(group) {
			p *= base
		}
		if p == uint64(group) {
			return true
		}
	}
	return false
}

// hasDesc says whether a group holds a copy of the descriptor block of its 64.
func hasDesc(group uint32) bool {
	n := group % groupsPerDesc
	return n == 0 || n == 1 || n == groupsPerDesc-1
}

// layout places metadata.
type layout struct{ flexLog uint32 }

func (l layout) flexSize() uint32 { return 1 << l.flexLog }

// descBlock is where the descriptor block is, in a group that has one.
func (l layout) descBlock(group uint32) uint32 {
	b := group * blocksPerGroup
	if hasSuper(group) {
		b++
	}
	return b
}

// tables is where the flexible group's bitmaps and inode tables start.
func (l layout) tables(group uint32) uint32 {
	first := group &^ (l.flexSize() - 1)
	b := l.descBlock(first)
	if hasDesc(first) {
		b++
	}
	return b
}

func (l layout) blockBitmap(group uint32) uint32 {
	return l.tables(group) + group&(l.flexSize()-1)
}

func (l layout) inodeBitmap(group uint32) uint32 {
	return l.blockBitmap(group) + l.flexSize()
}

func (l layout) inodeTable(group uint32) uint32 {
	return l.tables(group) + 2*l.flexSize() + group&(l.flexSize()-1)*tableBlocks
}

// prefix is how many blocks at the start of a group are not for data.
func (l layout) prefix(group uint32) uint32 {
	var n uint32
	if hasSuper(group) {
		n++
	}
	if hasDesc(group) {
		n++
	}
	if group&(l.flexSize()-1) == 0 {
		n += l.flexSize() * (2 + tableBlocks)
	}
	return n
}
