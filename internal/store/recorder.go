package store

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
)

// RecorderConfig configures NewRecorder.
type RecorderConfig struct {
	Records  Records               // required
	Audits   AuditLog              // required by ListAudit; Retain leaves it alone when nil
	Log      *slog.Logger          // nil = discard
	Metrics  prometheus.Registerer // nil = none
	MaxBytes int                   // cap of the queue; 0 = 256 MiB
	MaxWait  time.Duration         // how long a Commit waits before the store counts as away; 0 = 500 ms
	MaxBatch int                   // records in one transaction; 0 = 500
	// Incarnation is the node's, which owns every record that is written, until Renew; 0 = what the records say.
	Incarnation int64
}

// Recorder is the write queue in front of Records: group commit, one pending state a session, retries while the database is away.
// It also reads through the queue. Safe for concurrent use.
//
// States of one session are to be handed over in their order, by one goroutine at a time or under the caller's lock. End is
// final: a state that comes after it changes nothing.
type Recorder struct {
	cfg         RecorderConfig
	queue       *queue
	metrics     metrics
	incarnation atomic.Int64

	mu      sync.Mutex
	away    bool          // a Commit or a write took longer than MaxWait, and nothing was written since
	leaving chan struct{} // closed when away becomes true, and then replaced when it becomes false
	lastErr error         // of the last write, nil when it succeeded
	dropped int           // records given up
}

// NewRecorder returns a recorder; nothing is written until Run.
func NewRecorder(cfg RecorderConfig) *Recorder {
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	cfg.MaxBytes = cmp.Or(cfg.MaxBytes, 256<<20)
	cfg.MaxWait = cmp.Or(cfg.MaxWait, 500*time.Millisecond)
	cfg.MaxBatch = cmp.Or(cfg.MaxBatch, 500)
	r := &Recorder{cfg: cfg, queue: newQueue(cfg.MaxBytes), leaving: make(chan struct{})}
	r.metrics = newMetrics(cfg.Metrics, r.Status)
	r.incarnation.Store(cfg.Incarnation)
	return r
}

// Renew makes a new incarnation the owner of every record that is written from now on, those that wait included. Until it is called,
// the records of a node that was swept (ErrLeaseLost) wait, and the store counts as away. The caller hands over the records of all
// sessions that are connected once more, for they were closed in SQL.
func (r *Recorder) Renew(incarnation int64) { r.incarnation.Store(incarnation) }

// Stage makes a new record readable by Get before it is queued, so that a row that is about to enter the registry never lacks its
// details. Commit or Discard must follow; a session is staged once. ErrQueueFull when the queue is at its cap, ErrClosed after
// Run returned.
func (r *Recorder) Stage(rec Record) (*Ticket, error) {
	t := &Ticket{recorder: r, rec: rec, bytes: sizeOf(&rec, nil)}
	if err := r.queue.stage(t); err != nil {
		return nil, err
	}
	return t, nil
}

// Ticket is a staged record.
type Ticket struct {
	recorder *Recorder
	rec      Record
	bytes    int
	item     *item // what carries the record since it was queued; guarded by queue.mu
}

// Commit queues the record and waits until it is durable, at most MaxWait; after that the store counts as away and Commit waits
// no more until it answers. A store that is away is not an error, for the record waits in memory (G6). The error is ctx's (the
// record stays queued: End it), ErrClosed when the recorder stopped before it was written, or ErrRefused when the database will
// never take the record. When the session was ended before Commit, its end is what is waited for. After Discard it does nothing.
func (t *Ticket) Commit(ctx context.Context) error {
	it, err := t.recorder.queue.commit(t, time.Now())
	if err != nil || it == nil {
		return err
	}
	return t.recorder.wait(ctx, it)
}

// Discard forgets the record, unless it was committed or ended.
func (t *Ticket) Discard() { t.recorder.queue.discard(t) }

// CommitAll is Commit for many: all are queued before the first is waited for. It returns an error for each.
func (r *Recorder) CommitAll(ctx context.Context, tickets []*Ticket) []error {
	items, errs := make([]*item, len(tickets)), make([]error, len(tickets))
	for i, t := range tickets {
		items[i], errs[i] = r.queue.commit(t, time.Now())
	}
	for i, it := range items {
		if it != nil && errs[i] == nil {
			errs[i] = r.wait(ctx, it)
		}
	}
	return errs
}

// Change queues the record's new state and waits as Commit does.
func (r *Recorder) Change(ctx context.Context, rec Record) error {
	it, err := r.queue.put(rec, nil, time.Now())
	if err != nil {
		return err
	}
	return r.wait(ctx, it)
}

// Keep queues the record's new state and does not wait: for what need not outlast a crash.
func (r *Recorder) Keep(rec Record) { _, _ = r.queue.put(rec, nil, time.Now()) }

// Incarnation returns the node's, which owns what is written now.
func (r *Recorder) Incarnation() int64 { return r.incarnation.Load() }

// Adopt is Records.Adopt, for the node's incarnation. Nothing of a session that another node owned waits here.
func (r *Recorder) Adopt(ctx context.Context, leases []Record) ([]Record, error) {
	return r.cfg.Records.Adopt(ctx, r.Incarnation(), leases)
}

// FindLease is Records.FindLease; a lease that waits here to be written is not found.
func (r *Recorder) FindLease(ctx context.Context, id api.SessionID) (api.ApplicationID, error) {
	return r.cfg.Records.FindLease(ctx, id)
}

// End queues the record's end with denials of the tokens that it presented; it never waits and is never refused, even over the
// cap. The record must have EndedAt and EndReason. It is readable by Ended and Get before End returns. After Run returned it is
// lost, and logged.
func (r *Recorder) End(rec Record, denials ...Denial) {
	now := time.Now()
	if rec.EndedAt == 0 { // an open record would stay in lists for ever
		rec.EndedAt = api.MillisOf(now)
	}
	if _, err := r.queue.put(rec, denials, now); err != nil {
		r.cfg.Log.Error("the end of a session was not recorded", "session", rec.ServerID, "reason", rec.EndReason, "err", err)
	}
}

// Hold keeps back records that nobody waits for, until release is called, or d has passed: writing the ends of thousands of sessions
// takes the processors from those who wait. The last Hold counts; Flush and a clean stop end it.
func (r *Recorder) Hold(d time.Duration) (release func()) {
	r.queue.hold(time.Now().Add(d))
	over := time.AfterFunc(d, r.queue.signal)
	return func() {
		over.Stop()
		r.queue.hold(time.Time{})
	}
}

// wait waits for an item as Commit promises.
func (r *Recorder) wait(ctx context.Context, it *item) error {
	if it.settled() {
		return it.err
	}
	if r.isAway() {
		return nil
	}
	timer := time.NewTimer(r.cfg.MaxWait)
	defer timer.Stop()
	select {
	case <-it.done:
		return it.err
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		r.setAway(func() bool { return !it.settled() })
		return nil
	}
}

// Flush waits until everything that was queued before the call is durable, ctx ends, or the store counts as away; it returns
// whether it is durable.
func (r *Recorder) Flush(ctx context.Context) bool {
	r.queue.hold(time.Time{}) // somebody waits for what nobody waited for
	r.mu.Lock()
	dropped, leaving := r.dropped, r.leaving
	r.mu.Unlock()
	// Items are written in their order, and a newer state takes the place of the older one, so the last ones say it for all.
	last := r.queue.last()
	durable := true
	for _, it := range last {
		select {
		case <-it.done:
		case <-ctx.Done():
		case <-leaving:
		}
		durable = durable && it.settled() && it.err == nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return durable && r.dropped == dropped
}

// Get is Records.Get through the queue. When the store fails, it returns what the queue has, and the error.
func (r *Recorder) Get(ctx context.Context, app api.ApplicationID, ids []api.SessionID) (map[api.SessionID]Record, error) {
	found, missing := r.queue.get(app, ids)
	if len(missing) == 0 {
		return found, nil
	}
	stored, err := r.cfg.Records.Get(ctx, app, missing)
	if err != nil {
		return found, err
	}
	maps.Copy(found, stored)
	return found, nil
}

// Ended is Records.Ended through the queue, merged in list order without repetition. When the store fails, it returns what the
// queue has, and the error.
func (r *Recorder) Ended(ctx context.Context, app api.ApplicationID, filter EndFilter, after *api.Position,
	limit int) ([]Record, error) {
	if limit <= 0 {
		return nil, nil
	}
	queued := r.queue.endedAfter(app, &filter, after, limit) // before SQL, see queue
	stored, err := r.cfg.Records.Ended(ctx, app, filter, after, limit)
	if err != nil {
		return queued, err
	}
	return mergeEnded(queued, stored, limit), nil
}

// mergeEnded merges two lists in list order. Of two records of a session the queue's counts.
func mergeEnded(queued, stored []Record, limit int) []Record {
	if len(queued) == 0 {
		return stored
	}
	seen := make(map[api.SessionID]bool, len(queued))
	for i := range queued {
		seen[queued[i].ID] = true
	}
	merged := make([]Record, 0, min(limit, len(queued)+len(stored)))
	for len(merged) < limit && len(queued)+len(stored) > 0 {
		switch {
		case len(stored) > 0 && seen[stored[0].ID]:
			stored = stored[1:]
		case len(stored) == 0 || len(queued) > 0 && queued[0].Position().Compare(stored[0].Position()) <= 0:
			merged, queued = append(merged, queued[0]), queued[1:]
		default:
			merged, stored = append(merged, stored[0]), stored[1:]
		}
	}
	return merged
}

// CountEnded counts the records of an application that ended at or after since (0 = all), those of the queue included. When the
// store fails, it returns how many the queue has, and the error.
func (r *Recorder) CountEnded(ctx context.Context, app api.ApplicationID, since api.Millis) (int, error) {
	queued := r.queue.endedIDs(app, since)
	stored, err := r.cfg.Records.CountEnded(ctx, app, since, queued...)
	if err != nil {
		return len(queued), err
	}
	return len(queued) + stored, nil
}

// Minutes is Records.Minutes through the queue. When the store fails, it returns what the queue has, and the error.
func (r *Recorder) Minutes(ctx context.Context, app api.ApplicationID, starts []api.Millis, until api.Millis) ([]Minute, error) {
	minutes, ids := r.queue.minutes(app, starts, until) // before SQL, see queue
	stored, err := r.cfg.Records.Minutes(ctx, app, starts, until, ids...)
	for i, m := range stored {
		minutes[i].Connects += m.Connects
		minutes[i].Ends += m.Ends
	}
	return minutes, err
}

// RecorderStatus is the state of the queue.
type RecorderStatus struct {
	Queued int           // records that wait
	Bytes  int           // their estimated size
	Oldest time.Duration // how long the oldest has waited
	Away   bool          // the database does not answer
	Err    string        // the last error, for operators, while Away
}

// Status returns the current state, for /readyz.
func (r *Recorder) Status() RecorderStatus {
	var s RecorderStatus
	var oldest time.Time
	s.Queued, s.Bytes, oldest = r.queue.stats()
	if !oldest.IsZero() {
		s.Oldest = time.Since(oldest)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.Away = r.away; s.Away {
		s.Err = r.troubleLocked()
	}
	return s
}

// troubleLocked says what is wrong while the store is away.
func (r *Recorder) troubleLocked() string {
	if r.lastErr == nil {
		return "no answer within " + r.cfg.MaxWait.String()
	}
	return r.lastErr.Error()
}

func (r *Recorder) isAway() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away
}

// setAway is called when something took longer than MaxWait. The condition is asked under the lock under which answered clears
// the state, so that an answer that came at the same moment is not overlooked: whoever answers makes it false first.
func (r *Recorder) setAway(still func() bool) {
	r.mu.Lock()
	if r.away || !still() {
		r.mu.Unlock()
		return
	}
	r.away = true
	close(r.leaving)
	trouble := r.troubleLocked()
	r.mu.Unlock()
	r.cfg.Log.Warn("the database does not take records: they wait in memory, sessions go on", "err", trouble)
}

// answered is called after the database has settled something.
func (r *Recorder) answered() {
	r.mu.Lock()
	was := r.away
	if was {
		r.leaving = make(chan struct{})
	}
	r.away, r.lastErr = false, nil
	r.mu.Unlock()
	if was {
		queued, _, _ := r.queue.stats()
		r.cfg.Log.Info("the database answers again", "queued", queued)
	}
}
