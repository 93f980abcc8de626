package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/api"
)

const (
	endedNewest = `SELECT ` + recordColumns + ` FROM sessions WHERE application = ? AND ended_at <> 0 AND ended_at >= ?
		ORDER BY created_at DESC, server_id DESC LIMIT ?`
	endedAfter = `SELECT ` + recordColumns + ` FROM sessions WHERE application = ? AND ended_at <> 0 AND ended_at >= ?
		AND (created_at, server_id) < (?, ?) ORDER BY created_at DESC, server_id DESC LIMIT ?`

	// endedBy is what a narrow filter says; {reasons} are words of package api. Always with them, so that the index is one range a
	// reason.
	endedBy = `application = ? AND ended_at <> 0 AND end_reason IN ({reasons}) AND ended_at >= ? AND ended_at < ?`
	// How many match, up to a number, and when the last of them ended that ended for one reason: none of those was created later.
	endedCount = `SELECT count(*) FROM (SELECT 1 FROM sessions {by reason} WHERE ` + endedBy + ` LIMIT ?) AS few`
	endedLast  = `SELECT max(ended_at) FROM sessions {by reason} WHERE application = ? AND ended_at <> 0 AND end_reason = ?
		AND ended_at >= ? AND ended_at < ?`
	// Few are looked up and sorted, many are met soon on the way through the list, where the index alone tells which they are.
	endedFew = `SELECT ` + recordColumns + ` FROM sessions {by id} WHERE application = ?
		AND id IN (SELECT id FROM sessions {by reason} WHERE ` + endedBy + `)
		AND (created_at, server_id) < (?, ?) ORDER BY created_at DESC, server_id DESC LIMIT ?`
	endedMany = `SELECT ` + recordColumns + ` FROM sessions {by list} WHERE ` + endedBy + `
		AND (created_at, server_id) < (?, ?) ORDER BY created_at DESC, server_id DESC LIMIT ?`

	// A count a minute: grouping would sort what the index has in order.
	minuteCreated = `SELECT count(*) FROM sessions {by list} WHERE application = ? AND ended_at <> 0
		AND created_at >= ? AND created_at < ? AND ended_at < ?`
	minuteEnded = `SELECT count(*) FROM sessions {by reason} WHERE ` + endedBy + ` AND ended_at < ?`
	minutesBut  = `SELECT created_at, ended_at FROM sessions WHERE application = ? AND ended_at <> 0 AND id IN {ids}`
)

// fewEnded is how many records are looked up and sorted rather than looked for in the list: at a million ended ones that takes about
// as long as meeting a page of as many among them.
const fewEnded = 2000

// forever is later than every time.
const forever = api.Millis(math.MaxInt64)

func (r records) Ended(ctx context.Context, app api.ApplicationID, f EndFilter, after *api.Position, limit int) (all []Record, err error) {
	switch {
	case limit <= 0:
		return nil, nil
	case f.Narrow || f.Before != 0 || len(f.Reasons) > 0:
		all, err = r.endedNarrow(ctx, app, f, after, limit)
	case after == nil:
		all, err = list(ctx, r.engine, scanRecord, endedNewest, app.String(), int64(f.Since), limit)
	default:
		all, err = list(ctx, r.engine, scanRecord, endedAfter, app.String(), int64(f.Since), int64(after.CreatedAt),
			escape(after.ServerID), limit)
	}
	if err != nil {
		return nil, fmt.Errorf("read ended records: %w", err)
	}
	return all, nil
}

func (r records) endedNarrow(ctx context.Context, app api.ApplicationID, f EndFilter, after *api.Position, limit int) ([]Record, error) {
	before := cmp.Or(f.Before, forever)
	by := []any{app.String(), int64(f.Since), int64(before)}
	words := forReasons(f.Reasons)
	var n int
	if err := r.get(ctx, r.read, words(endedCount), append(slices.Clone(by), fewEnded+1), &n); err != nil || n == 0 {
		return nil, err
	}
	from := api.Position{CreatedAt: forever}
	if after != nil {
		from = *after
	}
	if n <= fewEnded {
		return list(ctx, r.engine, scanRecord, words(endedFew), app.String(), app.String(), int64(f.Since), int64(before),
			int64(from.CreatedAt), escape(from.ServerID), limit)
	}
	latest, err := r.lastEnd(ctx, app, f, before)
	if err != nil {
		return nil, err
	}
	if latest < from.CreatedAt {
		from = api.Position{CreatedAt: latest + 1}
	}
	return list(ctx, r.engine, scanRecord, words(endedMany), append(by, int64(from.CreatedAt), escape(from.ServerID), limit)...)
}

// lastEnd returns when the last record ended that the filter lets through. One question a reason, for each is a look at one place of
// the index.
func (r records) lastEnd(ctx context.Context, app api.ApplicationID, f EndFilter, before api.Millis) (latest api.Millis, err error) {
	for _, reason := range known(f.Reasons, api.EndReasons) {
		var last sql.NullInt64
		err := r.get(ctx, r.read, endedLast, []any{app.String(), string(reason), int64(f.Since), int64(before)}, &last)
		if err != nil {
			return 0, err
		}
		latest = max(latest, api.Millis(last.Int64))
	}
	return latest, nil
}

// forReasons returns what puts the reasons, or all there are, into a statement.
func forReasons(reasons []api.EndReason) func(query string) string {
	return strings.NewReplacer("{reasons}", quoted(reasons, api.EndReasons)).Replace
}

// quoted writes the words for IN: all, when none is given.
func quoted[T ~string](words, all []T) string {
	var in []string
	for _, word := range known(words, all) {
		in = append(in, "'"+string(word)+"'")
	}
	if len(in) == 0 {
		return "NULL"
	}
	return strings.Join(in, ", ")
}

// known returns the words that there are of those, or all when none is given.
func known[T ~string](words, all []T) []T {
	if len(words) == 0 {
		return all
	}
	return slices.DeleteFunc(slices.Clone(words), func(word T) bool { return !slices.Contains(all, word) })
}

func (r records) Minutes(ctx context.Context, app api.ApplicationID, starts []api.Millis, until api.Millis,
	but ...api.SessionID) (minutes []Minute, err error) {
	err = r.view(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var elsewhere [][2]api.Millis
		if len(but) > 0 {
			if elsewhere, err = collect(ctx, r.engine, tx, scanSpan, minutesBut, app.String(), idList(but)); err != nil {
				return err
			}
		}
		created, ended := r.sql(minuteCreated), r.sql(forReasons(nil)(minuteEnded))
		minutes = make([]Minute, len(starts))
		for i, at := range starts {
			m, end := &minutes[i], at+oneMinute
			m.At = at
			if err := tx.QueryRowContext(ctx, created, app.String(), int64(at), int64(end), int64(until)).Scan(&m.Connects); err != nil {
				return err
			}
			if err := tx.QueryRowContext(ctx, ended, app.String(), int64(at), int64(end), int64(until)).Scan(&m.Ends); err != nil {
				return err
			}
			for _, s := range elsewhere {
				m.add(s[0], s[1], until, -1)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count records by the minute: %w", err)
	}
	return minutes, nil
}

// oneMinute is what a Minute counts.
const oneMinute api.Millis = 60_000

// add counts n sessions that were created and ended at these times.
func (m *Minute) add(created, ended, until api.Millis, n int) {
	if ended >= until {
		return
	}
	if MinuteOf(created) == m.At {
		m.Connects += n
	}
	if MinuteOf(ended) == m.At {
		m.Ends += n
	}
}

// MinuteOf returns the beginning of the minute.
func MinuteOf(at api.Millis) api.Millis { return at / oneMinute * oneMinute }

// scanSpan reads when a session was created and ended.
func scanSpan(row scanner) (s [2]api.Millis, err error) {
	err = row.Scan(&s[0], &s[1])
	return s, err
}
