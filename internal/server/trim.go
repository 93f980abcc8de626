package server

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	trimInterval = 2 * time.Second
	// trimQuiet is how much may be allocated in an interval that counts as quiet, bytes.
	trimQuiet = 4 << 20
	// trimWorth is how much a trim must promise to return beside half of what lives, bytes.
	trimWorth = 4 << 20
)

// trim returns memory to the system when a burst is over. The collector lets the heap grow to twice what lives, runs when that is
// reached, and returns little by little what a storm of connects or a mass end left behind: a server that then has nothing to do
// would keep it for minutes.
func (s *Server) trim(ctx context.Context) error {
	t := newTrimmer()
	return every(ctx, trimInterval, func() {
		if t.due() {
			debug.FreeOSMemory()
		}
	})
}

// trimmer judges when a trim is worth a collection.
type trimmer struct {
	samples   []metrics.Sample
	allocated uint64 // bytes, ever
}

// What trimmer reads, in this order.
var trimMetrics = []string{
	"/gc/heap/allocs:bytes",
	"/gc/heap/live:bytes",
	"/memory/classes/heap/objects:bytes",
	"/memory/classes/heap/unused:bytes",
	"/memory/classes/heap/free:bytes",
}

func newTrimmer() *trimmer {
	t := &trimmer{}
	for _, name := range trimMetrics {
		t.samples = append(t.samples, metrics.Sample{Name: name})
	}
	return t
}

// due tells whether little was allocated since it was asked last, and the heap holds much more than what lived after the last
// collection.
func (t *trimmer) due() bool {
	metrics.Read(t.samples)
	v := func(i int) uint64 { return t.samples[i].Value.Uint64() }
	fresh := v(0) - t.allocated
	t.allocated = v(0)
	live, held := v(1), v(2)+v(3)+v(4)
	return fresh < trimQuiet && held > live+live/2+trimWorth
}
