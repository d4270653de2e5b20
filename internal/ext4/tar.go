package ext4

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// pendingLink is a hard link whose target did not exist when it was read.
type pendingLink struct {
	name, target string
	when         stamp
}

// readTar puts every entry of the archive into the tree and writes the
// contents of its files.
func (w *writer) readTar(ctx context.Context, tr *tar.Reader) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return w.linkPending()
		}
		// Names that lead out of the archive are resolved within the image.
		if err != nil && !errors.Is(err, tar.ErrInsecurePath) {
			return fmt.Errorf("cannot read the tar stream: %w", err)
		}
		if err := w.entry(ctx, hdr, tr); err != nil {
			return fmt.Errorf("tar entry %.200q: %w", hdr.Name, err)
		}
	}
}

func (w *writer) entry(ctx context.Context, hdr *tar.Header, content io.Reader) error {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return nil
	case tar.TypeLink:
		return w.hardLink(hdr)
	}
	n, err := nodeOf(hdr)
	if err != nil {
		return err
	}
	if n.kind() == typeRegular {
		if w.content += hdr.Size; hdr.Size < 0 || w.content < 0 || w.content > w.opts.MaxSize {
			return fmt.Errorf("the archive's files are larger than %d bytes together", w.opts.MaxSize)
		}
		n.size = hdr.Size
		if n.extents, err = w.writeContent(ctx, content, hdr.Size); err != nil {
			return err
		}
	}
	return w.tree.add(hdr.Name, n)
}

func (w *writer) hardLink(hdr *tar.Header) error {
	when := stampOf(hdr.ModTime)
	err := w.tree.link(hdr.Name, hdr.Linkname, when)
	if errors.Is(err, errMissing) {
		if len(w.pending) >= w.opts.MaxFiles {
			return fmt.Errorf("the archive has more than %d files", w.opts.MaxFiles)
		}
		w.pending = append(w.pending, pendingLink{hdr.Name, hdr.Linkname, when})
		return nil
	}
	if err != nil {
		return fmt.Errorf("hard link to %.200q: %w", hdr.Linkname, err)
	}
	return nil
}

// linkPending makes the links that came before their targets. A link to such a
// link may come first, hence the rounds; each but the last makes one at least.
func (w *writer) linkPending() error {
	for len(w.pending) > 0 {
		var left []pendingLink
		for _, l := range w.pending {
			err := w.tree.link(l.name, l.target, l.when)
			if errors.Is(err, errMissing) {
				left = append(left, l)
			} else if err != nil {
				return fmt.Errorf("hard link %.200q to %.200q: %w", l.name, l.target, err)
			}
		}
		if len(left) == len(w.pending) {
			return fmt.Errorf("hard link %.200q to %.200q: %w", left[0].name, left[0].target, errMissing)
		}
		w.pending = left
	}
	return nil
}

var types = map[byte]uint16{
	tar.TypeReg: typeRegular, tar.TypeCont: typeRegular, tar.TypeGNUSparse: typeRegular,
	tar.TypeDir: typeDir, tar.TypeSymlink: typeLink, tar.TypeChar: typeChar,
	tar.TypeBlock: typeBlock, tar.TypeFifo: typeFIFO,
}

// nodeOf takes over and checks what a header says of a file.
func nodeOf(hdr *tar.Header) (*node, error) {
	kind, ok := types[hdr.Typeflag]
	if !ok {
		return nil, fmt.Errorf("unknown type %q", hdr.Typeflag)
	}
	const maxID = 1<<32 - 2 // -1 means "no change" to chown
	if hdr.Uid < 0 || hdr.Gid < 0 || int64(hdr.Uid) > maxID || int64(hdr.Gid) > maxID {
		return nil, fmt.Errorf("owner %d:%d is out of range", hdr.Uid, hdr.Gid)
	}
	n := &node{
		mode: kind | uint16(hdr.Mode&0o7777), uid: uint32(hdr.Uid), gid: uint32(hdr.Gid),
		mtime: stampOf(hdr.ModTime),
	}
	n.atime, n.ctime = n.mtime, n.mtime
	if !hdr.AccessTime.IsZero() {
		n.atime = stampOf(hdr.AccessTime)
	}
	if !hdr.ChangeTime.IsZero() {
		n.ctime = stampOf(hdr.ChangeTime)
	}
	switch kind {
	case typeLink:
		if hdr.Linkname == "" || len(hdr.Linkname) > maxTarget || strings.IndexByte(hdr.Linkname, 0) >= 0 {
			return nil, fmt.Errorf("the target of the symbolic link is empty, longer than %d bytes or has a NUL byte", maxTarget)
		}
		n.mode, n.target, n.size = typeLink|0o777, hdr.Linkname, int64(len(hdr.Linkname))
	case typeChar, typeBlock:
		if hdr.Devmajor < 0 || hdr.Devminor < 0 || hdr.Devmajor >= 1<<12 || hdr.Devminor >= 1<<20 {
			return nil, fmt.Errorf("device number %d:%d is out of range", hdr.Devmajor, hdr.Devminor)
		}
		n.major, n.minor = uint32(hdr.Devmajor), uint32(hdr.Devminor)
	}
	var err error
	n.xattrs, err = xattrsOf(hdr.PAXRecords)
	return n, err
}
