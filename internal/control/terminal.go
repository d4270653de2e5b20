package control

import (
	"io"

	"sbx/internal/term"
)

// Printable, Filter and PlainText are those of package term, for callers that
// show what comes over the channel.
func Printable(s string) string       { return term.Printable(s) }
func Filter(w io.Writer) io.Writer    { return term.Filter(w) }
func PlainText(w io.Writer) io.Writer { return term.PlainText(w) }
