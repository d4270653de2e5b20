// Package progress reports long work: pure numbers on the way up, a line on
// the terminal at the top.
package progress

// Func is called as work goes on. Stage names what is being done in a few
// words; done and total count bytes, total 0 when it is not known. Calls come
// from one goroutine and may be frequent; a nil Func must not be called, use
// [Discard].
type Func func(stage string, done, total int64)

// Discard ignores all reports.
func Discard(string, int64, int64) {}
