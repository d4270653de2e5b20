package main

import (
	"os"
	"runtime"
	"testing"
)

func TestParentAndResident(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("/proc is Linux's")
	}
	if got, err := parent(os.Getpid()); err != nil || got != os.Getppid() {
		t.Errorf("parent = %d, %v; want %d", got, err, os.Getppid())
	}
	if u, err := resident(os.Getpid()); err != nil || u.own < 1<<20 || u.shared > u.own || u.guest != 0 {
		t.Errorf("resident = %+v, %v", u, err)
	}
}
