package ext4

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

var le = binary.LittleEndian

const (
	xattrMagic      = 0xEA020000
	xattrEntrySize  = 16
	xattrHeaderSize = 32
	// extraISize is the part of an inode after its first 128 bytes that holds
	// fields; attributes follow.
	extraISize    = 32
	xattrInInode  = inodeSize - 128 - extraISize
	indexACL      = 2
	indexACLInher = 3
)

// xattr is one extended attribute, its name shortened to what follows the
// prefix that index stands for.
type xattr struct {
	index byte
	name  string
	value []byte
}

var xattrPrefixes = []struct {
	prefix string
	index  byte
}{
	{"user.", 1}, {"trusted.", 4}, {"security.", 6},
}

// xattrsOf takes the attributes out of a PAX header, in the order in which
// Linux looks them up. Namespaces that Linux does not have on ext4 (such as
// com.apple) can't be kept and are left out.
func xattrsOf(records map[string]string) ([]xattr, error) {
	var all []xattr
	for key, value := range records {
		name, ok := strings.CutPrefix(key, "SCHILY.xattr.")
		if !ok {
			continue
		}
		x, ok, err := xattrOf(name, []byte(value))
		if err != nil {
			return nil, fmt.Errorf("extended attribute %.60q: %w", name, err)
		}
		if ok {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b xattr) int {
		return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(len(a.name), len(b.name)), cmp.Compare(a.name, b.name))
	})
	if _, _, err := packXattrs(all); err != nil {
		return nil, err
	}
	return all, nil
}

func xattrOf(name string, value []byte) (xattr, bool, error) {
	switch name {
	case "system.posix_acl_access":
		v, err := diskACL(value)
		return xattr{index: indexACL, value: v}, true, err
	case "system.posix_acl_default":
		v, err := diskACL(value)
		return xattr{index: indexACLInher, value: v}, true, err
	}
	for _, p := range xattrPrefixes {
		if rest, ok := strings.CutPrefix(name, p.prefix); ok {
			if rest == "" || len(rest) > maxName || strings.IndexByte(rest, 0) >= 0 {
				return xattr{}, false, errors.New("its name is empty, too long or has a NUL byte")
			}
			return xattr{index: p.index, name: rest, value: value}, true, nil
		}
	}
	return xattr{}, false, nil
}

// diskACL turns the form in which Linux gives out an ACL (version 2: every
// entry has an id) into the one that ext4 stores (version 1: only entries for
// a named user or group have).
func diskACL(v []byte) ([]byte, error) {
	const user, group = 0x02, 0x08
	if len(v) < 4 || (len(v)-4)%8 != 0 || le.Uint32(v) != 2 {
		return nil, errors.New("not a POSIX ACL")
	}
	out := le.AppendUint32(nil, 1)
	for e := v[4:]; len(e) > 0; e = e[8:] {
		out = append(out, e[:4]...)
		switch tag := le.Uint16(e); tag {
		case user, group:
			out = append(out, e[4:8]...)
		case 0x01, 0x04, 0x10, 0x20: // owner, owning group, mask, others
		default:
			return nil, fmt.Errorf("POSIX ACL with an unknown tag %d", tag)
		}
	}
	return out, nil
}

func align4(n int) int { return (n + 3) &^ 3 }

// room is what an attribute takes of an area.
func (x xattr) room() int {
	return xattrEntrySize + align4(len(x.name)) + align4(len(x.value))
}

// packXattrs makes the attribute area of the inode and, when that is not
// enough, the contents of an attribute block.
func packXattrs(all []xattr) (inode, block []byte, err error) {
	if len(all) == 0 {
		return nil, nil, nil
	}
	var in, out []xattr
	left := xattrInInode - 4 - 4 // magic, end mark
	for _, x := range all {
		if x.room() <= left {
			left -= x.room()
			in = append(in, x)
		} else {
			out = append(out, x)
		}
	}
	if len(in) > 0 {
		inode = make([]byte, xattrInInode)
		le.PutUint32(inode, xattrMagic)
		putXattrs(inode[4:], 0, in, false)
	}
	if len(out) == 0 {
		return inode, nil, nil
	}
	need := xattrHeaderSize + 4
	for _, x := range out {
		need += x.room()
	}
	if need > blockSize {
		return nil, nil, fmt.Errorf("its extended attributes take %d bytes, more than one block (%d)", need, blockSize)
	}
	block = make([]byte, blockSize)
	le.PutUint32(block[0:], xattrMagic)
	le.PutUint32(block[4:], 1) // references
	le.PutUint32(block[8:], 1) // blocks
	le.PutUint32(block[12:], putXattrs(block[xattrHeaderSize:], xattrHeaderSize, out, true))
	return inode, block, nil
}

// putXattrs writes entries from the area's start and values from its end.
// Values are found by their distance from base bytes before the area. It
// returns the hash of all entries.
func putXattrs(area []byte, base int, all []xattr, hashed bool) (total uint32) {
	entry, end := 0, len(area)
	for _, x := range all {
		end -= align4(len(x.value))
		copy(area[end:], x.value)
		e := area[entry:]
		e[0], e[1] = byte(len(x.name)), x.index
		if len(x.value) > 0 {
			le.PutUint16(e[2:], uint16(base+end))
		}
		le.PutUint32(e[8:], uint32(len(x.value)))
		if hashed {
			h := x.hash()
			le.PutUint32(e[12:], h)
			total = total<<16 ^ total>>16 ^ h
		}
		copy(e[xattrEntrySize:], x.name)
		entry += xattrEntrySize + align4(len(x.name))
	}
	return total
}

// hash is ext4_xattr_hash_entry of fs/ext4/xattr.c.
func (x xattr) hash() (h uint32) {
	for i := range len(x.name) {
		h = h<<5 ^ h>>27 ^ uint32(x.name[i])
	}
	padded := make([]byte, align4(len(x.value)))
	copy(padded, x.value)
	for ; len(padded) > 0; padded = padded[4:] {
		h = h<<16 ^ h>>16 ^ le.Uint32(padded)
	}
	return h
}
