package store_test

import (
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// TestFiltersThroughQueue: what waits to be written is filtered and counted as what was, and nothing twice.
func TestFiltersThroughQueue(t *testing.T) {
	db := open(t, "sqlite::memory:")
	owner := claim(t, db)
	const minute = 60_000
	record := func(created, end api.Millis, why api.EndReason) store.Record {
		rec := endOf(newRecord(created), end)
		rec.Incarnation, rec.EndReason = owner, why
		return rec
	}
	written := []store.Record{record(1, minute, api.EndRevoked), record(2, 2*minute, api.EndClientClosed)}
	queued := []store.Record{record(3, minute, api.EndRevoked), record(4, 3*minute, api.EndClientClosed)}
	both := record(5, minute, api.EndRevoked)
	if err := db.Records().Write(t.Context(), append(written, both), nil); err != nil {
		t.Fatal(err)
	}
	r := store.NewRecorder(store.RecorderConfig{Records: db.Records()}) // which does not run
	for _, rec := range append(queued, both) {
		r.End(rec)
	}
	for _, c := range []struct {
		filter store.EndFilter
		want   []store.Record
	}{
		{store.EndFilter{Reasons: []api.EndReason{api.EndRevoked}}, []store.Record{both, queued[0], written[0]}},
		{store.EndFilter{Since: 2 * minute, Narrow: true}, []store.Record{queued[1], written[1]}},
		{store.EndFilter{Since: 2 * minute, Before: 3 * minute}, written[1:]},
		{store.EndFilter{Before: 3 * minute, Reasons: []api.EndReason{api.EndClientClosed}}, written[1:]},
	} {
		got, err := r.Ended(t.Context(), testApp, c.filter, nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "filtered", got, c.want)
	}
	got, err := r.Minutes(t.Context(), testApp, []api.Millis{0, minute, 2 * minute, 3 * minute}, 1<<50)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "minutes", got, []store.Minute{{At: 0, Connects: 5}, {At: minute, Ends: 3}, {At: 2 * minute, Ends: 1}, {At: 3 * minute, Ends: 1}})
	got, err = r.Minutes(t.Context(), testApp, []api.Millis{0, 2 * minute}, 3*minute)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "minutes until", got, []store.Minute{{At: 0, Connects: 4}, {At: 2 * minute, Ends: 1}})
}
