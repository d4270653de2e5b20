//go:build !linux

package qemu

import (
	"errors"
	"io"
	"net"
	"os"

	"sbx/internal/vmm"
)

var errHost = errors.New("running virtual machines needs a Linux host")

type process struct {
	pid    int
	exited chan struct{}
}

func spawn(string, []string, string, []*os.File, access, io.Writer) (*process, error) {
	return nil, errHost
}

func (p *process) kill()                     {}
func (p *process) cause() error              { return errHost }
func (p *process) usage() (vmm.Usage, error) { return vmm.Usage{}, errHost }

func socketPair() (net.Conn, *os.File, error) { return nil, nil, errHost }

func checkDevice() error { return errHost }
func hostKernel() string { return "" }
