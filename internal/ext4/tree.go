package ext4

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// File types in an inode's mode.
const (
	typeMask    = 0xf000
	typeFIFO    = 0x1000
	typeChar    = 0x2000
	typeDir     = 0x4000
	typeBlock   = 0x6000
	typeRegular = 0x8000
	typeLink    = 0xa000
)

const (
	maxName    = 255
	maxPath    = 4096
	maxTarget  = 4095 // of a symbolic link: PATH_MAX without the NUL
	maxSymlink = 40   // followed on one path, as in Linux
)

// errMissing says that a path does not exist in the tree.
var errMissing = errors.New("it is not in the archive")

// stamp is a point in time as an inode holds it.
type stamp struct {
	sec  int64
	nsec uint32
}

func stampOf(t time.Time) stamp {
	const min, max = -1 << 31, 1<<34 - 1<<31 - 1
	switch s := t.Unix(); {
	case s < min:
		return stamp{sec: min}
	case s > max:
		return stamp{sec: max}
	default:
		return stamp{sec: s, nsec: uint32(t.Nanosecond())}
	}
}

// node is a file of any type.
type node struct {
	mode                uint16
	uid, gid            uint32
	atime, ctime, mtime stamp
	names               uint32 // directory entries that lead here
	size                int64
	extents             []extent
	target              string // symbolic links
	major, minor        uint32 // devices
	xattrs              []xattr
	parent              *node // directories
	children            map[string]*node

	// Set while the image is finished.
	ino      uint32
	blocks   uint64 // in use, of any kind
	iblock   [60]byte
	xattrRef uint32
	xattrIn  []byte
}

func (n *node) kind() uint16 { return n.mode & typeMask }
func (n *node) isDir() bool  { return n.kind() == typeDir }

// tree is the directory tree of an image. Paths are resolved in it alone.
type tree struct {
	root  *node
	files int
	max   int
	freed func(*node) // called for a file that lost its last name
}

func newTree(max int, freed func(*node)) *tree {
	root := &node{mode: typeDir | 0o755, children: map[string]*node{}}
	root.parent = root
	return &tree{root: root, max: max, freed: freed}
}

// count books one more file.
func (t *tree) count() error {
	if t.files++; t.files > t.max {
		return fmt.Errorf("the archive has more than %d files", t.max)
	}
	return nil
}

// split resolves all but the last element of a name. An empty base means the
// root directory.
func (t *tree) split(name string, create bool, when stamp) (dir *node, base string, err error) {
	if len(name) > maxPath {
		return nil, "", fmt.Errorf("the name %.60q... is longer than %d bytes", name, maxPath)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, "", fmt.Errorf("the name %.60q has a NUL byte", name)
	}
	p := path.Clean("/" + name)
	parent, base := path.Split(p)
	if len(base) > maxName {
		return nil, "", fmt.Errorf("the name %.60q... has an element longer than %d bytes", name, maxName)
	}
	dir, err = t.dir(parent, create, when)
	return dir, base, err
}

// dir walks to a directory, following symbolic links inside the tree. With
// create, directories that are missing are made.
func (t *tree) dir(rest string, create bool, when stamp) (*node, error) {
	cur, links := t.root, 0
	for rest != "" {
		var name string
		name, rest, _ = strings.Cut(rest, "/")
		switch name {
		case "", ".":
			continue
		case "..":
			cur = cur.parent
			continue
		}
		next := cur.children[name]
		switch {
		case next == nil && !create:
			return nil, errMissing
		case next == nil:
			if len(name) > maxName {
				return nil, fmt.Errorf("the name %.60q... has an element longer than %d bytes", name, maxName)
			}
			if err := t.count(); err != nil {
				return nil, err
			}
			next = &node{mode: typeDir | 0o755, names: 1, parent: cur, children: map[string]*node{},
				atime: when, ctime: when, mtime: when}
			cur.children[name] = next
			cur = next
		case next.kind() == typeLink:
			if links++; links > maxSymlink {
				return nil, fmt.Errorf("too many symbolic links on the way through %q", name)
			}
			if strings.HasPrefix(next.target, "/") {
				cur = t.root
			}
			rest = next.target + "/" + rest
		case !next.isDir():
			return nil, fmt.Errorf("%q is not a directory", name)
		default:
			cur = next
		}
	}
	return cur, nil
}

// add puts a file into the tree, in place of what has its name.
func (t *tree) add(name string, n *node) error {
	dir, base, err := t.split(name, true, n.mtime)
	if err != nil {
		return err
	}
	old := dir.children[base]
	if base == "" {
		old = t.root
	}
	switch {
	case n.isDir() && old != nil && old.isDir():
		old.mode, old.uid, old.gid, old.xattrs = n.mode, n.uid, n.gid, n.xattrs
		old.atime, old.ctime, old.mtime = n.atime, n.ctime, n.mtime
		return nil
	case base == "":
		return errors.New("the root of the archive is not a directory")
	}
	if err := t.count(); err != nil {
		return err
	}
	if n.isDir() {
		n.parent, n.children = dir, map[string]*node{}
	}
	t.put(dir, base, n)
	return nil
}

// link gives a file a second name. errMissing: the target isn't there (yet).
func (t *tree) link(name, target string, when stamp) error {
	from, base, err := t.split(target, false, when)
	if err != nil {
		return err
	}
	n := from.children[base]
	if base == "" || n == nil {
		return errMissing
	}
	if n.isDir() {
		return errors.New("it is a directory")
	}
	dir, base, err := t.split(name, true, when)
	if err != nil {
		return err
	}
	if base == "" || n.names >= maxLinks {
		return fmt.Errorf("a file can't have more than %d names, or that of the root", maxLinks)
	}
	if dir.children[base] == n {
		return nil
	}
	if err := t.count(); err != nil {
		return err
	}
	t.put(dir, base, n)
	return nil
}

func (t *tree) put(dir *node, base string, n *node) {
	n.names++
	if old := dir.children[base]; old != nil {
		t.drop(old)
	}
	dir.children[base] = n
}

// drop takes one name from a file; a directory goes with all that is in it.
func (t *tree) drop(n *node) {
	todo := []*node{n}
	for len(todo) > 0 {
		n, todo = todo[len(todo)-1], todo[:len(todo)-1]
		t.files--
		if n.isDir() {
			for _, c := range n.children {
				todo = append(todo, c)
			}
			continue
		}
		if n.names--; n.names == 0 {
			t.freed(n)
		}
	}
}
