package main

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sbx/internal/workspace"
)

//go:embed files.py
var filesScript string

// operations in the order of the table; files.py says what they are.
var operations = []string{
	"write 200 MB, with fsync", "read 200 MB", "create 2000 files of 1 kB", "stat 2000 files",
	"open and read 2000 files", "git status on 2000 files", "remove 2000 files", "untar 3000 files",
}

// place is a folder in a guest.
type place struct {
	name  string
	guest *guest
	path  string
	times map[string]sample
}

// measureFiles times the same operations on the workspace, on the guest's own
// disk, and on a folder served by the C virtiofsd to a machine that differs in
// nothing else; in turns.
func measureFiles(ctx context.Context, b *bench) (*table, error) {
	ours, closeOurs, err := b.oursGuest(ctx)
	if err != nil {
		return nil, err
	}
	defer closeOurs()
	places := []*place{
		{name: "disk", guest: ours, path: "/root"},
		{name: "workspace", guest: ours, path: "/work"},
	}
	peer, closePeer, peerErr := b.peerGuest(ctx)
	if peerErr == nil {
		defer closePeer()
		places = append(places, &place{name: "peer", guest: peer, path: "/work"})
	} else {
		b.log("without the peer: %v", peerErr)
	}
	for i := range max(1, b.runs/2) {
		for _, p := range places {
			if err := p.measure(ctx); err != nil {
				return nil, fmt.Errorf("%s: %w", p.name, err)
			}
			b.log("run %d: %s", i+1, p.name)
		}
	}
	return filesTable(places, peerErr), nil
}

func (p *place) measure(ctx context.Context) error {
	out, err := p.guest.run(ctx, strings.NewReader(filesScript), "python3", "-", p.path)
	if err != nil {
		return err
	}
	var times map[string]float64
	if err := json.Unmarshal([]byte(out), &times); err != nil {
		return fmt.Errorf("the guest said %q: %w", out, err)
	}
	if p.times == nil {
		p.times = make(map[string]sample)
	}
	for _, op := range operations {
		t, ok := times[op]
		if !ok {
			return fmt.Errorf("the guest did not measure %q", op)
		}
		p.times[op] = append(p.times[op], time.Duration(t*float64(time.Second)))
	}
	return nil
}

func filesTable(places []*place, peerErr error) *table {
	t := &table{head: []string{"", "guest's own disk", "workspace", "C virtiofsd", "workspace to disk", "workspace to virtiofsd"}}
	slower := 0
	for _, op := range operations {
		disk, ours := places[0].times[op].median(), places[1].times[op].median()
		row := []string{op, seconds(disk), seconds(ours), "–", ratio(ours, disk), "–"}
		if len(places) > 2 {
			peer := places[2].times[op].median()
			row[3], row[5] = seconds(peer), ratio(ours, peer)
			if ours > peer {
				slower++
			}
		}
		t.rows = append(t.rows, row)
	}
	if peerErr != nil {
		t.note("Without the C virtiofsd: %v.", peerErr)
		return t
	}
	verdict := "kept"
	if slower > 0 {
		verdict = fmt.Sprintf("**missed on %d of %d lines**", slower, len(operations))
	}
	t.note("Limit: no line slower than the C virtiofsd: %s. Medians of %d runs, in turns; caches of the guest dropped before reads.", verdict, len(places[0].times[operations[0]]))
	return t
}

// oursGuest is a machine whose /work is served by package workspace.
func (b *bench) oursGuest(ctx context.Context) (*guest, func(), error) {
	dir, folder, err := b.workspaceDirs()
	if err != nil {
		return nil, nil, err
	}
	socket := filepath.Join(dir, "fs.sock")
	options := workspace.Options{Owner: workspace.Owner{UID: 1000, GID: 1000}}
	server, err := workspace.Serve(ctx, socket, []workspace.Folder{{Name: "0", Path: folder}}, options)
	if err != nil {
		return nil, nil, err
	}
	g, err := b.bootGuest(ctx, dir, socket)
	if err != nil {
		return nil, nil, errors.Join(err, server.Close())
	}
	return g, func() { g.close(); server.Close() }, nil
}

// peerGuest is the same with the C virtiofsd.
func (b *bench) peerGuest(ctx context.Context) (*guest, func(), error) {
	dir, folder, err := b.workspaceDirs()
	if err != nil {
		return nil, nil, err
	}
	socket := filepath.Join(dir, "fs.sock")
	daemon, err := startVirtiofsd(ctx, b, socket, filepath.Dir(folder))
	if err != nil {
		return nil, nil, err
	}
	g, err := b.bootGuest(ctx, dir, socket)
	if err != nil {
		daemon.close()
		return nil, nil, err
	}
	return g, func() { g.close(); daemon.close() }, nil
}

// workspaceDirs makes a machine's directory, and the folder that it shares:
// child "0" of a directory that holds nothing else.
func (b *bench) workspaceDirs() (dir, folder string, err error) {
	if dir, err = b.machineDir(); err != nil {
		return "", "", err
	}
	root, err := b.temp("w")
	if err != nil {
		return "", "", err
	}
	folder = filepath.Join(root, "0")
	return dir, folder, os.Mkdir(folder, 0o755)
}
