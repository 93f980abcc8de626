package gateway

import (
	"testing"
	"time"
)

// BenchmarkOpen is a connect over real TCP: upgrade, token, row, record, welcome, and the end by the client. Both ends share the
// processors.
func BenchmarkOpen(b *testing.B) {
	f := newFixture(b, Limits{})
	tok := token(time.Hour)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := f.open(`"application":"123456789","token":"` + tok + `"`)
			_ = c.Close()
		}
	})
}
