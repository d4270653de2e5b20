package kernel

import (
	"encoding/binary"
	"strings"
	"testing"
)

func testTree(t *testing.T) *tree {
	t.Helper()
	tr, err := readTree(t.Context(), modulesDir(t))
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func names(modules []*module) string {
	var out []string
	for _, m := range modules {
		out = append(out, m.name)
	}
	return strings.Join(out, " ")
}

func TestResolveBoot(t *testing.T) {
	mod := func(name string, info ...string) module {
		m := module{name: name}
		m.readInfo([]byte(strings.Join(info, "\x00")))
		return m
	}
	tests := []struct {
		name, wanted, load, missing, fails string
		tree                               *tree
	}{
		{name: "an old kernel", tree: testTree(t), wanted: "virtio_pci virtio_blk ext4 virtiofs virtio_rng vmgenid",
			load: "virtio_ring virtio_pci virtio_blk crc32c_generic jbd2 ext4 fuse virtiofs rng_core virtio_rng"},
		{name: "all built in", tree: &tree{builtin: []string{"a", "b"}}, wanted: "a b"},
		{name: "an optional one is missing", tree: &tree{}, wanted: "a?", missing: "a"},
		{name: "a required one is missing", tree: &tree{}, wanted: "a", fails: "has no a"},
		{name: "a dependency is missing", tree: &tree{modules: []module{mod("a", "depends=b")}}, wanted: "a", fails: "for a: the kernel has no module b"},
		{name: "a dependency is built in", tree: &tree{modules: []module{mod("a", "depends=b")}, builtin: []string{"b"}}, wanted: "a", load: "a"},
		{name: "a circle", tree: &tree{modules: []module{mod("a", "depends=b"), mod("b", "depends=a")}}, wanted: "a", fails: "depends on itself"},
		{name: "a circle of wishes", tree: &tree{modules: []module{mod("a", "softdep=pre: b"), mod("b", "softdep=pre: a")}}, wanted: "a", load: "b a"},
		{name: "a wish that the kernel lacks", tree: &tree{modules: []module{mod("a", "softdep=pre: x post: y")}}, wanted: "a", load: "a"},
		{name: "a wish that is built in under another name", wanted: "a", load: "a",
			tree: &tree{modules: []module{mod("a", "softdep=pre: crc-x"), mod("c", "alias=crc-x")}, builtinAliases: [][2]string{{"crc_x", "d"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var wanted []bootModule
			for _, w := range strings.Fields(tt.wanted) {
				name, optional := strings.CutSuffix(w, "?")
				wanted = append(wanted, bootModule{name, !optional})
			}
			load, missing, err := resolveBoot(tt.tree, wanted)
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v, want %q", err, tt.fails)
				}
				return
			}
			if err != nil || names(load) != tt.load || strings.Join(missing, " ") != tt.missing {
				t.Errorf("load %q, missing %q, %v", names(load), missing, err)
			}
		})
	}
}

func TestDepmod(t *testing.T) {
	files, err := testTree(t).depmod()
	if err != nil {
		t.Fatal(err)
	}
	for name, lines := range map[string][]string{
		"modules.dep": {
			"kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko",
			"kernel/fs/jbd2/jbd2.ko:",
			"kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/char/hw_random/rng-core.ko",
		},
		"modules.alias":   {"alias virtio:d00000002v* virtio_blk", "alias crypto-crc32c crc32c_generic"},
		"modules.symbols": {"alias symbol:vring_create virtio_ring"},
		"modules.softdep": {"softdep ext4 pre: crc32c post: other"},
		"modules.devname": {"fuse fuse c10:229"},
	} {
		for _, l := range lines {
			if !strings.Contains("\n"+string(files[name]), "\n"+l+"\n") {
				t.Errorf("%s lacks %q:\n%s", name, l, files[name])
			}
		}
	}
	for _, l := range []struct{ index, key, want string }{
		{"modules.dep.bin", "ext4", "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko"},
		{"modules.dep.bin", "virtio_rng", "kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/char/hw_random/rng-core.ko"},
		{"modules.dep.bin", "virtio", ""},
		{"modules.alias.bin", "crypto_crc32c", "crc32c_generic"},
		{"modules.alias.bin", "virtio:d00000002v*", "virtio_blk"},
		{"modules.symbols.bin", "symbol:vring_create", "virtio_ring"},
		{"modules.builtin.alias.bin", "some_alias", "virtio"},
	} {
		if got := strings.Join(lookup(t, files[l.index], l.key), ","); got != l.want {
			t.Errorf("%s: %s is %q, want %q", l.index, l.key, got, l.want)
		}
	}
}

func TestTrie(t *testing.T) {
	root := &trie{}
	words := []string{"ask", "ate", "on", "once", "one", "", "asks", "on"}
	for i, w := range words {
		root.add(w, strings.ToUpper(w), len(words)-i)
	}
	root.add("\x80", "not ASCII", 0)
	data := root.bytes()
	for _, w := range words {
		want := strings.ToUpper(w)
		if w == "on" {
			want = "ON,ON"
		}
		if got := strings.Join(lookup(t, data, w), ","); got != want {
			t.Errorf("%q is %q, want %q", w, got, want)
		}
	}
	for _, w := range []string{"o", "onc", "a", "asking", "z"} {
		if got := lookup(t, data, w); got != nil {
			t.Errorf("%q is %q", w, got)
		}
	}
}

// lookup reads an index as libkmod does.
func lookup(t *testing.T, data []byte, key string) []string {
	t.Helper()
	be := binary.BigEndian
	if be.Uint32(data) != 0xb007f457 || be.Uint32(data[4:]) != 0x00020001 {
		t.Fatal("wrong magic number")
	}
	offset := be.Uint32(data[8:])
	cstring := func(at int) string {
		s, _, _ := strings.Cut(string(data[at:]), "\x00")
		return s
	}
	for {
		at := int(offset & 0x0fffffff)
		if at == 0 {
			return nil
		}
		if offset&0x80000000 != 0 {
			prefix := cstring(at)
			at += len(prefix) + 1
			if !strings.HasPrefix(key, prefix) {
				return nil
			}
			key = key[len(prefix):]
		}
		var next uint32
		if offset&0x20000000 != 0 {
			first, last := data[at], data[at+1]
			if key != "" && key[0] >= first && key[0] <= last {
				next = be.Uint32(data[at+2+4*int(key[0]-first):])
			}
			at += 2 + 4*(int(last-first)+1)
		}
		if key != "" {
			offset, key = next, key[1:]
			continue
		}
		if offset&0x40000000 == 0 {
			return nil
		}
		var out []string
		n := be.Uint32(data[at:])
		for at += 4; n > 0; n-- {
			out = append(out, cstring(at+4))
			at += 4 + len(out[len(out)-1]) + 1
		}
		return out
	}
}

func TestReadTreeErrors(t *testing.T) {
	if _, err := readTree(t.Context(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "not a directory of modules") {
		t.Error(err)
	}
	if _, err := parseModule("x.ko", []byte("junk")); err == nil {
		t.Error("junk was taken for a module")
	}
	if _, err := parseModule("x.ko", vmlinux()); err == nil || !strings.Contains(err.Error(), ".modinfo") {
		t.Error(err)
	}
}

func FuzzModule(f *testing.F) {
	f.Add(koFile([]string{"depends=a,b-c", "softdep=pre: x post: y", "alias=a-[b-c]*"}, "sym"))
	f.Add([]byte("a.alias=b\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := module{name: "m"}
		m.readInfo(data)
		if p, err := parseModule("kernel/p.ko", data); err == nil {
			m = p
		}
		tr := &tree{modules: []module{m}, builtin: []string{"b"}, builtinAliases: parseBuiltinInfo(data)}
		_, _, _ = resolveBoot(tr, []bootModule{{m.name, true}})
		_, _ = tr.depmod()
	})
}
