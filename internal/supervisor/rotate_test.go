package supervisor

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestLogsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "console.log")
	l, err := openRotating(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	chunk := bytes.Repeat([]byte("a line of a guest that has much to say\n"), 1000)
	for written := 0; written < 3*maxLog; written += len(chunk) {
		if _, err := l.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	l.Write([]byte("the end"))
	for _, p := range []string{path, path + ".1"} {
		if st, err := os.Stat(p); err != nil || st.Size() > maxLog {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
	if b, _ := os.ReadFile(path); !bytes.HasSuffix(b, []byte("the end")) {
		t.Error("the last line is not in the newest part")
	}
}
