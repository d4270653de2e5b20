package workspace

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestServeListensUntilClosed(t *testing.T) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "fs.sock")
	folders := []Folder{{Name: "w", Path: dir}}
	for range 2 {
		s, err := Serve(context.Background(), socket, folders, Options{})
		must(t, err)
		conn, err := net.Dial("unix", socket)
		must(t, err)
		if _, err := Serve(context.Background(), socket, folders, Options{}); err == nil {
			t.Error("two servers on one socket")
		}
		must(t, s.Close())
		must(t, s.Close())
		_ = conn.Close()
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is left")
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	s, err := Serve(ctx, socket, folders, Options{})
	must(t, err)
	cancel()
	<-s.done
	must(t, s.Close())
	if _, err := Serve(context.Background(), socket, []Folder{{Name: "w", Path: dir + "/none"}}, Options{}); err == nil {
		t.Error("a folder that doesn't exist was served")
	}
}
