package host

import (
	"fmt"

	"sbx/internal/settings"
)

// maxDefaultMemory bounds what a sandbox gets unasked.
const maxDefaultMemory = 32 << 30

// DefaultMemory is the memory of a sandbox for which the user named none: half
// of the host's, at most 32 GiB, in whole MiB.
func DefaultMemory() (int64, error) {
	total, err := Memory()
	if err != nil {
		return 0, err
	}
	return max(min(total/2, maxDefaultMemory), settings.MinMemory) &^ (1<<20 - 1), nil
}

// CheckMemory refuses more memory for a sandbox than the host has.
func CheckMemory(n int64) error {
	total, err := Memory()
	if err != nil {
		return err
	}
	if n > total {
		return fmt.Errorf("%s of memory is more than this computer's %.1fg", settings.FormatSize(n), float64(total)/(1<<30))
	}
	return nil
}
