package vmmtest

import (
	"path/filepath"
	"testing"

	"sbx/internal/vmm"
)

// hello is what the guest reads from the file "hello", quoted.
const hello = `"hello\n"`

func (s shared) testShares(t *testing.T) {
	ctx := deadline(t)
	if err := s.m.AttachShare(ctx, vmm.Share{Tag: "none", Socket: filepath.Join(s.c.Dir, "none")}); err == nil {
		t.Error("a share without a back end was attached")
	}
	if err := s.m.DetachShare(ctx, "none"); err == nil {
		t.Error("a share that is not there was detached")
	}
	if s.f.ServeShare == nil {
		t.Skip("the fixture has no back end for shares")
	}
	g := connect(t, s.m)
	defer g.Close()
	// More often than there are ports: what is detached makes room.
	for range 10 {
		s.testShare(t, g)
	}
	// In use: the guest loses it all the same, and goes on.
	s.attachShare(t, "used")
	g.order(t, "mount used /used")
	if err := s.m.DetachShare(ctx, "used"); err != nil {
		t.Error(err)
	}
	g.order(t, "ping")
}

func (s shared) attachShare(t *testing.T, tag string) vmm.Share {
	t.Helper()
	share := vmm.Share{Tag: tag, Socket: filepath.Join(runtimeDir(t), "fs")}
	s.f.ServeShare(t, share.Socket)
	if err := s.m.AttachShare(deadline(t), share); err != nil {
		t.Fatal(err)
	}
	return share
}

func (s shared) testShare(t *testing.T, g *guest) {
	t.Helper()
	ctx := deadline(t)
	share := s.attachShare(t, "hot")
	if err := s.m.AttachShare(ctx, share); err == nil {
		t.Error("the same share was attached twice")
	}
	g.order(t, "mount hot /hot")
	if got := g.order(t, "read /hot/hello"); got != hello {
		t.Errorf("the guest read %s", got)
	}
	// A paused machine with a share must answer and go on.
	if err := s.m.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.m.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	g.order(t, "umount /hot")
	if err := s.m.DetachShare(ctx, share.Tag); err != nil {
		t.Fatal(err)
	}
}
