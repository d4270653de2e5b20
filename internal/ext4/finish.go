package ext4

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"math/bits"
	"slices"
)

// finish writes all metadata.
func (w *writer) finish(ctx context.Context) error {
	if w.tree.root.children["lost+found"] == nil { // e2fsck wants it
		n := &node{mode: typeDir | 0o700, atime: w.now, ctime: w.now, mtime: w.now}
		if err := w.tree.add("lost+found", n); err != nil {
			return err
		}
	}
	nodes := w.number()
	if len(nodes) > maxInodes {
		return errFull
	}
	for _, n := range nodes {
		if n == nil {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if n.isDir() {
			if err := w.writeDir(n); err != nil {
				return err
			}
		}
		if err := w.finishNode(n); err != nil {
			return err
		}
	}
	if !w.opts.ReadOnly {
		journal, err := w.journal()
		if err != nil {
			return err
		}
		nodes[journalInode-1] = journal
	}
	return w.writeMetadata(nodes)
}

// number gives every file its inode; the result's index is the number less 1.
func (w *writer) number() []*node {
	nodes := make([]*node, firstInode-1, firstInode+w.tree.files)
	w.tree.root.ino = rootInode
	nodes[rootInode-1] = w.tree.root
	give := func(n *node) {
		if n.ino == 0 {
			nodes = append(nodes, n)
			n.ino = uint32(len(nodes))
		}
	}
	give(w.tree.root.children["lost+found"])
	for todo := []*node{w.tree.root}; len(todo) > 0; {
		dir := todo[0]
		todo = todo[1:]
		for _, name := range slices.Sorted(maps.Keys(dir.children)) {
			c := dir.children[name]
			give(c)
			if c.isDir() {
				todo = append(todo, c)
			}
		}
	}
	return nodes
}

// journal makes the journal: a file of which only the superblock is written,
// because an empty journal is never read further. It is big-endian (jbd2).
func (w *writer) journal() (*node, error) {
	count := uint32(journalBlocks)
	if max(w.opts.MinSize, int64(w.next)*blockSize) < tinySize {
		count = journalBlocksTiny
	}
	n := &node{mode: typeRegular | 0o600, names: 1, ino: journalInode, size: int64(count) * blockSize,
		atime: w.now, ctime: w.now, mtime: w.now}
	for logical := uint32(0); logical < count; {
		first, got, err := w.alloc(count - logical)
		if err != nil {
			return nil, err
		}
		for got > 0 {
			part := min(got, maxExtentBlocks)
			n.extents = appendExtent(n.extents, extent{logical, first, part})
			logical, first, got = logical+part, first+part, got-part
		}
	}
	be := binary.BigEndian
	sb := make([]byte, blockSize)
	be.PutUint32(sb[0x00:], 0xC03B3998) // magic
	be.PutUint32(sb[0x04:], 4)          // superblock, version 2
	be.PutUint32(sb[0x0c:], blockSize)
	be.PutUint32(sb[0x10:], count)
	be.PutUint32(sb[0x14:], 1) // first block of the log
	be.PutUint32(sb[0x18:], 1) // first sequence number
	copy(sb[0x30:], w.opts.UUID[:])
	be.PutUint32(sb[0x40:], 1) // users
	if err := w.put(n.extents[0].physical, sb); err != nil {
		return nil, err
	}
	return n, w.finishExtents(n)
}

// size is how many blocks the file system has: whole groups for one to live
// in, the least that holds everything for a read-only one.
func (w *writer) size(inodes int) uint32 {
	need := int64(w.next)
	if !w.opts.ReadOnly {
		need += need / 8
	}
	need = max(need, (w.opts.MinSize+blockSize-1)/blockSize)
	groups := (need + blocksPerGroup - 1) / blocksPerGroup
	byInodes := int64(inodes+inodesPerGroup-1) / inodesPerGroup
	if !w.opts.ReadOnly || byInodes > groups {
		return uint32(max(groups, byInodes) * blocksPerGroup)
	}
	// The last group must hold its own metadata, and by e2fsprogs' rules at
	// least 50 blocks more.
	last := uint32(groups - 1)
	least := last*blocksPerGroup + w.layout.prefix(last) + 50
	return max(uint32(need), least)
}

// image is the geometry and the sums of a finished image.
type image struct {
	blocks, groups         uint32
	freeBlocks             uint64
	freeInodes, usedInodes uint32
	descriptors            []byte
	journal                *node
}

func (w *writer) writeMetadata(nodes []*node) error {
	im := &image{blocks: w.size(len(nodes)), journal: nodes[journalInode-1]}
	if im.blocks > 1<<32-2*blocksPerGroup {
		return errFull
	}
	im.groups = (im.blocks + blocksPerGroup - 1) / blocksPerGroup
	im.descriptors = make([]byte, (im.groups+groupsPerDesc-1)/groupsPerDesc*blockSize)
	w.markMetadata(im)
	for g := range im.groups {
		if err := w.writeGroup(im, g, nodes); err != nil {
			return err
		}
	}
	if err := w.writeSupers(im); err != nil {
		return err
	}
	if err := w.flush(); err != nil {
		return err
	}
	return w.f.Truncate(int64(im.blocks) * blockSize)
}

// markMetadata books the metadata of groups that exist.
func (w *writer) markMetadata(im *image) {
	l := w.layout
	w.mark(im.groups*blocksPerGroup-1, 1, false) // extends the bitmap to the last group
	for g := range im.groups {
		if hasSuper(g) {
			w.mark(g*blocksPerGroup, 1, true)
		}
		if hasDesc(g) {
			w.mark(l.descBlock(g), 1, true)
		}
		w.mark(l.blockBitmap(g), 1, true)
		w.mark(l.inodeBitmap(g), 1, true)
		w.mark(l.inodeTable(g), tableBlocks, true)
	}
	if end := im.groups * blocksPerGroup; im.blocks < end {
		w.mark(im.blocks, end-im.blocks, true) // past the end
	}
}

// writeGroup writes a group's bitmaps, inode table and descriptor.
func (w *writer) writeGroup(im *image, g uint32, nodes []*node) error {
	const uninitInodes, zeroedTable = 1, 4
	l := w.layout
	blockMap := make([]byte, 0, blockSize)
	free := uint32(blocksPerGroup)
	for _, word := range w.used[g*blocksPerGroup/64 : (g+1)*blocksPerGroup/64] {
		blockMap = le.AppendUint64(blockMap, word)
		free -= uint32(bits.OnesCount64(word))
	}
	table, inodeMap, used, dirs := w.encodeTable(g, nodes)
	highest := uint32(len(table) / inodeSize)
	flags := uint16(zeroedTable) // holes read as zeros
	if highest == 0 {
		flags |= uninitInodes
	}
	im.freeBlocks += uint64(free)
	im.freeInodes += inodesPerGroup - used
	im.usedInodes += used

	d := im.descriptors[g*descSize : (g+1)*descSize]
	blockSum := crc(w.seed, blockMap)
	inodeSum := crc(w.seed, inodeMap[:inodesPerGroup/8])
	le.PutUint32(d[0x00:], l.blockBitmap(g))
	le.PutUint32(d[0x04:], l.inodeBitmap(g))
	le.PutUint32(d[0x08:], l.inodeTable(g))
	le.PutUint16(d[0x0c:], uint16(free))
	le.PutUint16(d[0x0e:], uint16(inodesPerGroup-used))
	le.PutUint16(d[0x10:], uint16(dirs))
	le.PutUint16(d[0x12:], flags)
	le.PutUint16(d[0x18:], uint16(blockSum))
	le.PutUint16(d[0x1a:], uint16(inodeSum))
	le.PutUint16(d[0x1c:], uint16(inodesPerGroup-highest))
	le.PutUint16(d[0x38:], uint16(blockSum>>16))
	le.PutUint16(d[0x3a:], uint16(inodeSum>>16))
	var number [4]byte
	le.PutUint32(number[:], g)
	le.PutUint16(d[0x1e:], uint16(crc(crc(w.seed, number[:]), d)))

	return errors.Join(
		w.put(l.blockBitmap(g), blockMap),
		w.put(l.inodeBitmap(g), inodeMap),
		w.put(l.inodeTable(g), table),
	)
}

// encodeTable makes the part of a group's inode table that is in use, and the
// inode bitmap. The reserved inodes count as used.
func (w *writer) encodeTable(g uint32, nodes []*node) (table, bitmap []byte, used, dirs uint32) {
	bitmap = make([]byte, blockSize)
	for i := inodesPerGroup / 8; i < blockSize; i++ {
		bitmap[i] = 0xff // past the end
	}
	first := int(g * inodesPerGroup)
	if first >= len(nodes) {
		return nil, bitmap, 0, 0
	}
	for i, n := range nodes[first:min(len(nodes), first+inodesPerGroup)] {
		bitmap[i/8] |= 1 << (i % 8)
		used++
		if n == nil {
			table = append(table, make([]byte, inodeSize)...)
			continue
		}
		if n.isDir() {
			dirs++
		}
		table = append(table, w.encode(n)...)
	}
	return table, bitmap, used, dirs
}
