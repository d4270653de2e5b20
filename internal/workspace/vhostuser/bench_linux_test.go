package vhostuser

import "testing"

// BenchmarkRoundTrip is a lone request: kick to interrupt.
func BenchmarkRoundTrip(b *testing.B) {
	_, socket := newServer(b, StopTimeout, one(newEcho()))
	d := newDriver(boot(b, socket), 1, 64)
	msg := make([]byte, 64)
	for b.Loop() {
		d.call1(msg, 64)
	}
}

// BenchmarkParallel keeps many requests in the ring.
func BenchmarkParallel(b *testing.B) {
	_, socket := newServer(b, StopTimeout, one(newEcho()))
	d := newDriver(boot(b, socket), 1, 64)
	msg := make([]byte, 64)
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			d.call1(msg, 64)
		}
	})
}
