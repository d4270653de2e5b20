package cli

import (
	"sbx/internal/progress"
	"sbx/internal/term"
)

// formatBytes writes a size for people.
func formatBytes(n int64) string { return progress.Bytes(n) }

// printable makes foreign text, names for example, safe to print.
func printable(s string) string { return term.Printable(s) }
