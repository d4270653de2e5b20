package workspace

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"

	"sbx/internal/workspace/vhostuser"
)

// Server serves folders on a unix socket, to one virtual machine after another.
type Server struct {
	fs        *FS
	transport *vhostuser.Server
	done      chan struct{}
}

// Serve opens the folders and listens on socket, which the virtual machine
// monitor connects to; both has happened when it returns. It serves until ctx
// ends or Close is called. Each time the guest mounts, it starts afresh.
func Serve(ctx context.Context, socket string, folders []Folder, o Options) (*Server, error) {
	f, err := New(folders, o)
	if err != nil {
		return nil, err
	}
	log := f.opts.Log
	transport, err := vhostuser.Listen(socket, func() vhostuser.Handler {
		return vhostuser.NewFUSEHandler(func() (fuse.RawFileSystem, *fuse.MountOptions) {
			s := f.session()
			return s, s.MountOptions()
		}, log)
	}, log)
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	s := &Server{fs: f, transport: transport, done: make(chan struct{})}
	go func() {
		defer close(s.done)
		if err := transport.Serve(ctx); err != nil {
			log.Error("workspace: serving ended", "error", err)
		}
	}()
	return s, nil
}

// Close disconnects the machine and returns when nothing is left: no socket, no
// descriptor, no goroutine. Requests of the guest fail from now on.
func (s *Server) Close() error {
	err := s.transport.Close()
	<-s.done
	_ = s.fs.Close()
	return err
}
