package workspace

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// The path of a folder was checked by somebody else, earlier: a link that was
// put into it since must not lead elsewhere.
func TestFolderPathHasNoLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	must(t, os.MkdirAll(dir+"/a/b/c", 0o755))
	must(t, os.MkdirAll(dir+"/other/b/c", 0o755))
	write(t, dir+"/a/file", "")
	must(t, os.Symlink("a", dir+"/relative"))
	must(t, os.Symlink(dir+"/other", dir+"/absolute"))
	must(t, os.Symlink("c", dir+"/a/b/last"))
	for name, open := range map[string]func(string) (int, error){
		"openat2": openNoSymlinks, "walk": walkNoSymlinks, "either": openReal,
	} {
		for path, ok := range map[string]bool{
			dir + "/a/b/c":                      true,
			dir + "/a/b/":                       true,
			"/":                                 true,
			dir + "/relative/b/c":               false, // in the middle
			dir + "/absolute/b/c":               false,
			dir + "/a/b/last":                   false,
			dir + "/a/file":                     false,
			dir + "/a/missing":                  false,
			"/proc/self/root" + dir + "/a/b":    false, // magic links
			"/proc/thread-self/cwd":             false,
			dir + "/a/b/c/../../../absolute/b/": false,
		} {
			fd, err := open(path)
			if err == nil {
				unix.Close(fd)
			}
			if errors.Is(err, unix.ENOSYS) {
				t.Skip("no openat2")
			}
			if (err == nil) != ok {
				t.Errorf("%s of %q: %v", name, path, err)
			}
		}
	}
	if f, err := New([]Folder{{Name: "w", Path: dir + "/relative/b"}}, Options{}); err == nil {
		f.Close()
		t.Error("a folder behind a link was shared")
	}
}
