package manage

import (
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// TestCountedHolds: a minute is counted again until it is settled and was counted alike twice, and from time to time.
func TestCountedHolds(t *testing.T) {
	const start = api.Millis(60_000_000)
	ready := start.Add(seriesStep + settled)
	for _, c := range []struct {
		name string
		n    counted
		now  api.Millis
		want bool
	}{
		{"never counted", counted{}, ready, false},
		{"settled", counted{at: ready, sure: true}, ready, true},
		{"counted too early", counted{at: ready - 1, sure: true}, ready, false},
		{"counted once", counted{at: ready}, ready, false},
		{"just in time", counted{at: ready, sure: true}, ready.Add(recount - time.Millisecond), true},
		{"long ago", counted{at: ready, sure: true}, ready.Add(recount), false},
	} {
		if got := c.n.holds(start, c.now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
