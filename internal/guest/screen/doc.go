// Package screen remembers what a terminal shows, so that another terminal can
// be made to show the same.
//
// Start from [New]: a [Screen] takes a program's output by Write, and Restore
// returns the bytes that bring a terminal to the same picture and modes. It
// follows xterm where terminals differ. Terminal emulation libraries keep the
// hidden main screen, margins, character sets and saved cursor to themselves,
// which Restore needs.
//
// The output is hostile. Every sequence is bounded in length and every number
// in size; memory is bounded by the size of the screen and its history. Not
// remembered, because the program redraws or it is too rarely used: hyperlinks,
// images, colour palettes, tab stops.
//
// A Screen is not safe for concurrent use.
package screen
