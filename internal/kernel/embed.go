package kernel

import (
	"embed"
	"fmt"
)

// bin holds the guest's init, sbx-init-GOARCH, which make puts there before it
// builds sbx.
//
//go:embed all:bin
var bin embed.FS

// guestInit returns the embedded program for goarch.
func guestInit(goarch string) ([]byte, error) {
	data, err := bin.ReadFile("bin/sbx-init-" + goarch)
	if err != nil {
		return nil, fmt.Errorf("this sbx was built without the guest program for %s; build it with `make build`", goarch)
	}
	return data, nil
}
