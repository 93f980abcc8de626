package store_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

var errTrouble = errors.New("trouble")

// fakeRecords is Records in memory, with hooks at the places where a database can fail or take its time.
type fakeRecords struct {
	store.Records // what no test uses

	onWrite func(ctx context.Context, records []store.Record) error // before a write; its error fails the write
	onDone  func() error                                            // after it was applied; its error is what the caller sees
	onRead  func() error                                            // before a read, and before its result is returned

	mu      sync.Mutex
	rows    map[api.ApplicationID]map[api.SessionID]store.Record
	denials []store.Denial
	audits  []store.Audit
	batches [][]store.Record // every call of Write
}

func (f *fakeRecords) Write(ctx context.Context, records []store.Record, denials []store.Denial, audits ...store.Audit) error {
	f.mu.Lock()
	f.batches = append(f.batches, slices.Clone(records))
	onWrite, onDone := f.onWrite, f.onDone
	f.mu.Unlock()
	if onWrite != nil {
		if err := onWrite(ctx, records); err != nil {
			return err
		}
	}
	f.mu.Lock()
	for _, rec := range records {
		if f.rows == nil {
			f.rows = map[api.ApplicationID]map[api.SessionID]store.Record{}
		}
		if f.rows[rec.Application] == nil {
			f.rows[rec.Application] = map[api.SessionID]store.Record{}
		}
		if f.rows[rec.Application][rec.ID].EndedAt == 0 {
			f.rows[rec.Application][rec.ID] = rec
		}
	}
	f.denials = append(f.denials, denials...)
	f.audits = append(f.audits, audits...)
	f.mu.Unlock()
	if onDone != nil {
		return onDone()
	}
	return nil
}

func (f *fakeRecords) read() error {
	f.mu.Lock()
	onRead := f.onRead
	f.mu.Unlock()
	if onRead != nil {
		return onRead()
	}
	return nil
}

func (f *fakeRecords) Get(_ context.Context, app api.ApplicationID, ids []api.SessionID) (map[api.SessionID]store.Record, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	found := map[api.SessionID]store.Record{}
	for _, id := range ids {
		if rec, ok := f.rows[app][id]; ok {
			found[id] = rec
		}
	}
	f.mu.Unlock()
	return found, f.read()
}

func (f *fakeRecords) Ended(_ context.Context, app api.ApplicationID, filter store.EndFilter, after *api.Position,
	limit int) ([]store.Record, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	all := slices.Collect(maps.Values(f.rows[app]))
	f.mu.Unlock()
	return page(all, filter.Since, after, limit), f.read()
}

// page is the naive list of ended records.
func page(all []store.Record, since api.Millis, after *api.Position, limit int) []store.Record {
	all = slices.DeleteFunc(slices.Clone(all), func(rec store.Record) bool {
		return rec.EndedAt == 0 || rec.EndedAt < since || after != nil && rec.Position().Compare(*after) <= 0
	})
	slices.SortFunc(all, func(a, b store.Record) int { return a.Position().Compare(b.Position()) })
	return all[:min(limit, len(all))]
}

func (f *fakeRecords) CountEnded(_ context.Context, app api.ApplicationID, since api.Millis, but ...api.SessionID) (int, error) {
	if err := f.read(); err != nil {
		return 0, err
	}
	f.mu.Lock()
	n := 0
	for id, rec := range f.rows[app] {
		if rec.EndedAt != 0 && rec.EndedAt >= since && !slices.Contains(but, id) {
			n++
		}
	}
	f.mu.Unlock()
	return n, f.read()
}

func (f *fakeRecords) Expire(_ context.Context, org api.OrganizationID, before api.Millis, limit int) (int, error) {
	if err := f.read(); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, rows := range f.rows {
		for id, rec := range rows {
			if n < limit && rec.Organization == org && rec.EndedAt != 0 && rec.EndedAt < before {
				delete(rows, id)
				n++
			}
		}
	}
	return n, nil
}

// row returns what is durable.
func (f *fakeRecords) row(rec store.Record) (store.Record, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	got, ok := f.rows[rec.Application][rec.ID]
	return got, ok
}

func (f *fakeRecords) hooks(onWrite func(context.Context, []store.Record) error, onDone func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onWrite, f.onDone = onWrite, onDone
}

// fail makes every write fail with err, nil = none.
func (f *fakeRecords) fail(err error) {
	f.hooks(func(context.Context, []store.Record) error { return err }, nil)
}

// block makes writes wait until release is called, or their context ends.
func (f *fakeRecords) block() (release func()) {
	gate := make(chan struct{})
	f.hooks(func(ctx context.Context, _ []store.Record) error {
		select {
		case <-gate:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, nil)
	return sync.OnceFunc(func() { close(gate) })
}

func (f *fakeRecords) written() [][]store.Record {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.batches)
}

var (
	testOrg = api.MustID[api.Organization]("11111111-1111-4111-8111-111111111111")
	testApp = api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
)

func newRecord(at api.Millis) store.Record {
	id := api.NewSessionID()
	return store.Record{ID: id, ServerID: api.NewServerID("srv-01", id), Organization: testOrg, Application: testApp, Incarnation: 1,
		CreatedAt: at, ClientID: id.String()}
}

func endOf(rec store.Record, at api.Millis) store.Record {
	rec.EndedAt, rec.EndReason = at, api.EndClientClosed
	return rec
}

func denialOf(tokenID string) store.Denial {
	return store.Denial{Application: testApp, TokenID: tokenID, ExpiresAt: 1 << 50}
}

// bubble runs a test of a recorder over fakeRecords with fake time. The recorder runs, and stops when the test returns.
func bubble(t *testing.T, cfg store.RecorderConfig, test func(t *testing.T, r *store.Recorder, f *fakeRecords)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeRecords{}
		cfg.Records = f
		r := store.NewRecorder(cfg)
		stop := runRecorder(t, r)
		defer func() { // also after t.Fatal
			f.hooks(nil, nil)
			stop()
			if s := r.Status(); s.Queued != 0 || s.Away {
				t.Errorf("after the end: %+v", s)
			}
		}()
		test(t, r, f)
	})
}

func stage(t *testing.T, r *store.Recorder, rec store.Record) *store.Ticket {
	t.Helper()
	ticket, err := r.Stage(rec)
	if err != nil {
		t.Fatal(err)
	}
	return ticket
}

func commit(t *testing.T, ticket *store.Ticket) {
	t.Helper()
	if err := ticket.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
}
