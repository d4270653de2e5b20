package cli

import (
	"sbx/internal/control"
	"sbx/internal/progress"
)

// formatBytes writes a size for people.
func formatBytes(n int64) string { return progress.Bytes(n) }

// printable makes foreign text, names for example, safe to print.
func printable(s string) string { return control.Printable(s) }
