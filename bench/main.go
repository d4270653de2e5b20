// Command bench measures sbx against what its parts could do at best, side by
// side in one run, and writes the results into docs/performance.md.
//
// usage: go run ./bench [-only boot,exec,files,memory] [-n RUNS] [-o FILE]
//
// It uses the kernel, the template and the QEMU that 'sbx setup' prepared, and
// XDG directories of its own for everything else. Each section is one file:
// boot.go, exec.go, files.go, memory.go. What a section needs and the host
// lacks (an SSH server, the C virtiofsd) is left out with a note, unless -get
// allows to install or download it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// section is one group of measurements. It returns a table and may log on
// standard error.
type section struct {
	name, title string
	measure     func(context.Context, *bench) (*table, error)
}

var sections = []section{
	{"boot", "From nothing to an answer", measureBoot},
	{"exec", "A command in a running sandbox", measureExec},
	{"files", "The workspace", measureFiles},
	{"memory", "Memory of an idle sandbox", measureMemory},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	only := flag.String("only", "", "sections to measure, separated by commas; the others keep their last results")
	runs := flag.Int("n", 7, "runs of each measurement, of which the median counts")
	out := flag.String("o", "docs/performance.md", "file to write the tables into")
	bin := flag.String("sbx", "bin/sbx", "the sbx to measure")
	get := flag.Bool("get", true, "install openssh-server and download the C virtiofsd where they are missing")
	flag.Parse()
	if flag.NArg() > 0 || *runs < 1 {
		flag.Usage()
		return errors.New("wrong usage")
	}
	if err := checkSections(*only); err != nil {
		return err
	}
	b, err := newBench(ctx, *bin, *runs, *get)
	if err != nil {
		return err
	}
	defer b.close()
	for _, s := range sections {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), s.name) {
			continue
		}
		b.log("== %s", s.title)
		t, err := s.measure(ctx, b)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		text := "## " + s.title + "\n\n" + t.markdown() + "\n" + b.host.describe() + "\n"
		fmt.Println(text)
		if err := replaceSection(*out, s.name, text); err != nil {
			return err
		}
	}
	return nil
}

func checkSections(only string) error {
	if only == "" {
		return nil
	}
	for _, name := range strings.Split(only, ",") {
		if !slices.ContainsFunc(sections, func(s section) bool { return s.name == name }) {
			return fmt.Errorf("no section %q", name)
		}
	}
	return nil
}

// bench is what sections share.
type bench struct {
	runs int
	get  bool
	dir  string // temporary, short enough for sockets
	cli  *cli
	prepared
	host hostInfo
}

func newBench(ctx context.Context, bin string, runs int, get bool) (*bench, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("%w; run 'make setup' first", err)
	}
	b := &bench{runs: runs, get: get}
	if b.prepared, err = findPrepared(ctx); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "sbxb"); err != nil {
		return nil, err
	}
	b.cli = newCLI(bin, b.dir)
	b.host = describeHost(b.qemu.Version.String(), string(b.accel))
	return b, nil
}

func (b *bench) close() {
	b.cli.removeAll()
	if err := os.RemoveAll(b.dir); err != nil {
		b.log("%v", err)
	}
}

func (b *bench) log(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// temp makes a directory below the temporary one, which nobody else enters;
// the directory itself is as open as a user's folders are.
func (b *bench) temp(name string) (string, error) {
	dir, err := os.MkdirTemp(b.dir, name)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}
