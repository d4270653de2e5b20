package ext4

import (
	"bytes"
	"errors"
	"os"
	"testing"
)

func TestGrowTo(t *testing.T) {
	f, err := os.Open(convert(t, archive(t), Options{MinSize: 3 << 30}))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const now = 3 << 30 / blockSize
	tests := []struct {
		name   string
		device int64
		want   uint64
	}{
		{"as large as it is", 3 << 30, now},
		{"smaller", 1 << 30, now},
		{"larger", 20 << 30, 20 << 30 / blockSize},
		{"part of a block", 20<<30 + 4095, 20 << 30 / blockSize},
		{"a group too small for its metadata", 20<<30 + 4<<20, 20 << 30 / blockSize},
		{"a small group", 20<<30 + 16<<20, (20<<30 + 16<<20) / blockSize},
		{"hardly larger", 3<<30 + blockSize, now},
	}
	for _, tt := range tests {
		before, then, err := growTo(f, tt.device)
		if err != nil || before != now || then != tt.want {
			t.Errorf("%s: from %d to %d, error %v; want %d to %d", tt.name, before, then, err, now, tt.want)
		}
	}
}

func TestGrowRefusesOtherFileSystems(t *testing.T) {
	if _, _, err := growTo(bytes.NewReader(make([]byte, 4096)), 1<<30); !errors.Is(err, ErrNotExt4) {
		t.Errorf("error %v, want %v", err, ErrNotExt4)
	}
	if _, _, err := growTo(bytes.NewReader(make([]byte, 100)), 1<<30); err == nil {
		t.Error("no error for a device that is too short")
	}
}
