package store_test

import (
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// BenchmarkEnded is what filters and minutes cost among a million ended sessions, a thousandth of which an operator ended, a hundredth
// of which a restart did long ago, and all but a tenth of which ended in the last hour.
func BenchmarkEnded(b *testing.B) { onEach(b, benchEnded) }

func benchEnded(b *testing.B, db store.DB) {
	const n = 1_000_000
	app, org := api.NewID[api.Application](), api.NewID[api.Organization]()
	owner := claim(b, db)
	now := api.MillisOf(time.Now())
	batch := make([]store.Record, 0, 10_000)
	for i := range n {
		rec := benchRecord(app, org, now-3_600_000+api.Millis(i*3600/1000))
		rec.Incarnation, rec.EndedAt, rec.EndReason = owner, rec.CreatedAt+api.Millis(i%60_000), api.EndClientClosed
		switch {
		case i < n/100:
			rec.EndReason = api.EndServerStopped
		case i%1000 == 0:
			rec.EndReason = api.EndDisconnected
		}
		if batch = append(batch, rec); len(batch) == cap(batch) {
			if err := db.Records().Write(b.Context(), batch, nil); err != nil {
				b.Fatal(err)
			}
			batch = batch[:0]
		}
	}
	if testing.Verbose() {
		b.Log("filled")
	}
	store.Analyze(b, db)
	minutes := func(n int) func() error {
		var starts []api.Millis
		for i := range n {
			starts = append(starts, store.MinuteOf(now)-api.Millis(i*60_000))
		}
		return func() error { _, err := db.Records().Minutes(b.Context(), app, starts, 1<<50); return err }
	}
	list := func(f store.EndFilter) func() error {
		return func() error {
			_, err := db.Records().Ended(b.Context(), app, f, nil, 101)
			return err
		}
	}
	for _, c := range []struct {
		name string
		do   func() error
	}{
		{"unfiltered", list(store.EndFilter{})},
		{"rare-reason", list(store.EndFilter{Reasons: []api.EndReason{api.EndDisconnected}})},
		{"old-reason", list(store.EndFilter{Reasons: []api.EndReason{api.EndServerStopped}})},
		{"common-reason", list(store.EndFilter{Reasons: []api.EndReason{api.EndClientClosed}})},
		{"no-such-reason", list(store.EndFilter{Reasons: []api.EndReason{api.EndNodeLost}})},
		{"last-minutes", list(store.EndFilter{Since: now - 300_000, Narrow: true})},
		{"one-second", list(store.EndFilter{Since: now - 1_800_000, Before: now - 1_799_000})},
		{"first-half", list(store.EndFilter{Before: now - 1_800_000})},
		{"minutes-61", minutes(61)},
		{"minutes-2", minutes(2)},
		{"count", func() error { _, err := db.Records().CountEnded(b.Context(), app, now-3_600_000); return err }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				if err := c.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
