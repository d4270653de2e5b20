package kernel

import (
	"encoding/binary"
	"sort"
)

// trie is the index that libkmod reads, in files that end in ".bin": a radix
// tree from keys to values (libkmod-index.h of kmod, version 2.1).
type trie struct {
	prefix   string // follows the byte on the arc to this node
	values   []trieValue
	children [trieKeys]*trie
}

// trieValue is one value of a key; a lower priority number comes first.
type trieValue struct {
	priority int
	text     string
}

const (
	trieMagic   = 0xb007f457
	trieVersion = 0x00020001
	trieKeys    = 128 // keys are ASCII

	// What a node has is in the top bits of the offset that leads to it.
	trieHasPrefix   = 0x80000000
	trieHasValues   = 0x40000000
	trieHasChildren = 0x20000000
)

// add enters a value. A key that the format can't hold is left out: no name
// of a module or alias is one.
func (t *trie) add(key, value string, priority int) {
	for i := range len(key) {
		if key[i] == 0 || key[i] >= trieKeys {
			return
		}
	}
	node := t
	for {
		n := 0
		for n < len(node.prefix) && n < len(key) && node.prefix[n] == key[n] {
			n++
		}
		if n < len(node.prefix) {
			node.split(n)
		}
		if key = key[n:]; key == "" {
			node.addValue(trieValue{priority, value})
			return
		}
		c := key[0]
		key = key[1:]
		if node.children[c] == nil {
			node.children[c] = &trie{prefix: key}
		}
		node = node.children[c]
	}
}

// split moves all after the first n bytes of the prefix to a child.
func (t *trie) split(n int) {
	child := *t
	c := t.prefix[n]
	child.prefix = t.prefix[n+1:]
	*t = trie{prefix: t.prefix[:n]}
	t.children[c] = &child
}

func (t *trie) addValue(v trieValue) {
	i := sort.Search(len(t.values), func(i int) bool { return t.values[i].priority >= v.priority })
	t.values = append(t.values, trieValue{})
	copy(t.values[i+1:], t.values[i:])
	t.values[i] = v
}

// bytes is the file.
func (t *trie) bytes() []byte {
	out := binary.BigEndian.AppendUint32(nil, trieMagic)
	out = binary.BigEndian.AppendUint32(out, trieVersion)
	out = binary.BigEndian.AppendUint32(out, 0)
	root, out := t.append(out)
	binary.BigEndian.PutUint32(out[8:], root)
	return out
}

// append writes the node after its children and returns where it is.
func (t *trie) append(out []byte) (uint32, []byte) {
	first, last := -1, -1
	for c, child := range t.children {
		if child == nil {
			continue
		}
		if first < 0 {
			first = c
		}
		last = c
	}
	var offsets []uint32
	for c := first; first >= 0 && c <= last; c++ {
		var at uint32
		if t.children[c] != nil {
			at, out = t.children[c].append(out)
		}
		offsets = append(offsets, at)
	}
	at := uint32(len(out))
	if t.prefix != "" {
		at |= trieHasPrefix
		out = append(append(out, t.prefix...), 0)
	}
	if len(offsets) > 0 {
		at |= trieHasChildren
		out = append(out, byte(first), byte(last))
		for _, o := range offsets {
			out = binary.BigEndian.AppendUint32(out, o)
		}
	}
	if len(t.values) > 0 {
		at |= trieHasValues
		out = binary.BigEndian.AppendUint32(out, uint32(len(t.values)))
		for _, v := range t.values {
			out = binary.BigEndian.AppendUint32(out, uint32(v.priority))
			out = append(append(out, v.text...), 0)
		}
	}
	return at, out
}
