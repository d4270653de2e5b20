package supervisor

import (
	"os"
	"sync"
)

// maxLog is the size at which a log starts anew; one older part is kept, so no
// log grows beyond twice this.
const maxLog = 4 << 20

// rotatingFile is a log that a guest can write to without end.
type rotatingFile struct {
	mu   sync.Mutex
	path string
	f    *os.File
	size int64
}

func openRotating(path string) (*rotatingFile, error) {
	l := &rotatingFile{path: path}
	return l, l.open()
}

// Write appends p, starting a new file first when the present one is full.
func (l *rotatingFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size+int64(len(p)) > maxLog && l.size > 0 {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(p)
	l.size += int64(n)
	return n, err
}

func (l *rotatingFile) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

func (l *rotatingFile) rotate() error {
	l.f.Close()
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		return err
	}
	return l.open()
}

func (l *rotatingFile) open() (err error) {
	if l.f, err = openLog(l.path); err != nil {
		return err
	}
	st, err := l.f.Stat()
	if err == nil {
		l.size = st.Size()
	}
	return err
}

func openLog(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}
