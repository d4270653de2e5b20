package qemu

import (
	"context"
	"log/slog"
	"testing"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"

	"sbx/internal/workspace/vhostuser"
)

// serveShare is a file system in memory behind a vhost-user-fs back end.
func serveShare(t *testing.T, socket string) {
	t.Helper()
	newFS := func() (fuse.RawFileSystem, *fuse.MountOptions) {
		root := &helloRoot{}
		return fs.NewNodeFS(root, &fs.Options{}), &fuse.MountOptions{}
	}
	log := slog.New(slog.DiscardHandler)
	s, err := vhostuser.Listen(socket, func() vhostuser.Handler { return vhostuser.NewFUSEHandler(newFS, log) }, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Serve(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		_ = s.Close()
		<-ended
	})
}

type helloRoot struct{ fs.Inode }

// OnAdd makes the one file.
func (r *helloRoot) OnAdd(ctx context.Context) {
	file := &fs.MemRegularFile{Data: []byte("hello\n"), Attr: fuse.Attr{Mode: 0o644}}
	r.AddChild("hello", r.NewPersistentInode(ctx, file, fs.StableAttr{}), false)
}
