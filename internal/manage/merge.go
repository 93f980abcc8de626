package manage

import (
	"context"
	"errors"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/view"
)

// found is a session as reading finds it: live (row), ended (record), or live with its details (both).
type found struct {
	row    *registry.Row
	record *store.Record
}

func (f *found) position() api.Position {
	if f.row != nil {
		return api.Position{CreatedAt: f.row.CreatedAt, ServerID: f.row.ServerID}
	}
	return f.record.Position()
}

// listing is a question about an application's sessions.
type listing struct {
	live  registry.Range
	rows  bool // live ones are wanted
	ended bool // ended ones are wanted
	ends  store.EndFilter
	after *api.Position
	limit int
}

// read answers with up to limit sessions in list order, and whether there are more. The registry is read before the recorder: what
// ends in between is in the second, because an end is recorded before the row leaves, so nothing is missed; what is in both is
// shown once, live. The error is the store's; what was found is true all the same.
func (a *API) read(ctx context.Context, app api.ApplicationID, q listing, now api.Millis) (sessions []found, more bool, err error) {
	var rows []registry.Row
	if q.rows {
		rows = a.registry.Sessions(app, q.after, q.limit+1, q.live, now)
	}
	var records []store.Record
	if q.ended {
		records, err = a.records.Ended(ctx, app, q.ends, q.after, q.limit+1)
	}
	sessions = merge(rows, records, q.limit+1)
	if more = len(sessions) > q.limit; more {
		sessions = sessions[:q.limit]
	}
	return sessions, more, errors.Join(err, a.addDetails(ctx, app, sessions))
}

// merge joins two lists in list order.
func merge(rows []registry.Row, records []store.Record, limit int) []found {
	out := make([]found, 0, min(limit, len(rows)+len(records)))
	for len(out) < limit && (len(rows) > 0 || len(records) > 0) {
		var next found
		if len(rows) > 0 {
			next.row = &rows[0]
		}
		if len(records) > 0 && (next.row == nil || records[0].Position().Compare(next.position()) <= 0) {
			if next.row == nil || next.row.ServerID != records[0].ServerID {
				next = found{record: &records[0]}
			}
			records = records[1:]
		}
		if next.row != nil {
			rows = rows[1:]
		}
		out = append(out, next)
	}
	return out
}

// addDetails reads the records of the live sessions in one query.
func (a *API) addDetails(ctx context.Context, app api.ApplicationID, sessions []found) error {
	var ids []api.SessionID
	for _, f := range sessions {
		if f.row != nil {
			ids = append(ids, f.row.Session)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	records, err := a.records.Get(ctx, app, ids)
	missing := false
	for i := range sessions {
		if f := &sessions[i]; f.row != nil {
			if rec, ok := records[f.row.Session]; ok {
				f.record = &rec
			} else {
				missing = true
			}
		}
	}
	if !missing {
		return nil // the queue had all of them, whatever the store said
	}
	return err
}

// show writes a session as the Sessions dialect has it.
func (f *found) show(app tenant.Application, now api.Millis, details bool) api.Session {
	return view.Session(app, f.row, f.record, now, details)
}
