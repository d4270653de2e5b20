// Package template keeps the disk images that sandboxes start from.
//
// Start at [Open] for a template that is there, at [BuildDebian] to make the
// default one. A template is an ext4 image that never changes; a sandbox's
// disk is an overlay on it.
//
// # Files
//
//	templates/ID/image.ext4     mode 0444; ID is its SHA-256
//	templates/ID/template.json  what is known of it
//	templates/refs/NAME         the ID that a name stands for
//	templates/tmp/              builds under way
//
// # What it promises
//
// A template appears whole or not at all: it is built in tmp, synced, and
// renamed. Only one build runs at a time, others wait for it; what an
// interrupted build left is removed by the next. [Open] finds out cheaply
// whether the image is still the one that was recorded, by size and time of
// modification, and compares its SHA-256 when they differ.
//
// The methods of this package may be used by several processes at once. To
// keep a template from being removed between opening it and recording that a
// sandbox uses it, hold [Share] meanwhile.
package template
