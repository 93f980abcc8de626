package store

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// A transaction a record would use up a core at some 8,000 records a second, so transactions are paced and what arrives
	// meanwhile makes a batch: paceBurst at once, which is what a quiet server needs, then one every paceInterval. Full batches are
	// not held up.
	paceInterval = 2500 * time.Microsecond
	paceBurst    = 20
	// Retries while the database is in trouble start with minBackoff, doubled up to maxBackoff.
	minBackoff = 20 * time.Millisecond
	maxBackoff = time.Second
	// writeTimeout bounds one transaction; after that it is tried again, which an idempotent write allows.
	writeTimeout = 30 * time.Second
	// stopTimeout is how long Run goes on writing after its context ended.
	stopTimeout = 5 * time.Second
)

// Run writes until ctx ends, then tries for at most 5 s more to empty the queue, and returns the error that kept records
// unwritten. To be called once.
func (r *Recorder) Run(ctx context.Context) error {
	// Writes outlive ctx: stopping is when they matter most.
	writeCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(stopTimeout, cancel) })()
	pace := rate.NewLimiter(rate.Every(paceInterval), paceBurst)
	for {
		select {
		case <-r.queue.wake:
		case <-ctx.Done():
			return r.finish(writeCtx, nil)
		}
		if r.queue.len() < r.cfg.MaxBatch {
			_ = pace.Wait(ctx) // ended early by ctx, which is seen next
		}
		batch := r.queue.take(r.cfg.MaxBatch)
		if len(batch) == r.cfg.MaxBatch {
			r.queue.signal() // there may be more
		}
		if rest, _ := r.writeAll(ctx, writeCtx, batch); len(rest) > 0 {
			return r.finish(writeCtx, rest)
		}
	}
}

// finish writes the rest of a batch and everything that waits, until ctx ends, and closes the queue.
func (r *Recorder) finish(ctx context.Context, batch []*item) error {
	r.queue.hold(time.Time{})
	for {
		rest, err := r.writeAll(ctx, ctx, batch)
		if len(rest) > 0 {
			queued, _, _ := r.queue.stats()
			r.queue.close(false)
			// Not wrapped: it may be ctx's, and whoever stops us takes that for a clean end.
			return errors.New(strconv.Itoa(queued) + " records were not written before the stop, and are lost: " + err.Error())
		}
		if r.queue.close(true) {
			return nil
		}
		batch = r.queue.take(r.cfg.MaxBatch)
	}
}

// writeAll writes the batch, again and again while the database is in trouble, until it is settled or ctx ends. It returns what
// is left of it, and the last error.
//
// When the database refuses the values of one record, parts of half the size are tried until that record is alone, and it is
// given up: losing one record, loudly, is better than blocking all others for ever. Any other error is trouble of the database
// (locked, full, gone), in which nothing is given up.
func (r *Recorder) writeAll(ctx, writeCtx context.Context, batch []*item) ([]*item, error) {
	var err error
	size, backoff := len(batch), minBackoff
	for len(batch) > 0 {
		size = min(size, len(batch))
		err = r.write(writeCtx, batch[:size])
		if errors.Is(err, ErrRefused) && size > 1 {
			size /= 2
			continue
		}
		if errors.Is(err, ErrRefused) {
			err = r.giveUp(writeCtx, batch[0], err)
		}
		if err == nil {
			batch = batch[size:]
			size, backoff = 2*size, minBackoff
			continue
		}
		if !sleep(ctx, backoff) {
			break
		}
		backoff = min(2*backoff, maxBackoff)
	}
	return batch, err
}

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// write writes items in one transaction and settles them.
func (r *Recorder) write(ctx context.Context, items []*item) error {
	records, owner := make([]Record, 0, len(items)), r.incarnation.Load()
	var denials []Denial
	var audits []Audit
	for _, it := range items {
		if it.audit != nil {
			audits = append(audits, *it.audit)
			continue
		}
		rec := it.rec
		rec.Incarnation = cmp.Or(owner, rec.Incarnation)
		records, denials = append(records, rec), append(denials, it.denials...)
	}
	if err := r.attempt(ctx, records, denials, audits); err != nil {
		return err
	}
	r.queue.settle(items, nil)
	r.answered()
	return nil
}

// giveUp settles an item that the database refuses. Its denials are written nevertheless: a record is history, a denial keeps
// somebody out (G4). The error is trouble of the database, and nothing was given up.
func (r *Recorder) giveUp(ctx context.Context, it *item, refusal error) error {
	if len(it.denials) > 0 {
		if err := r.attempt(ctx, nil, it.denials, nil); err != nil && !errors.Is(err, ErrRefused) {
			return err
		}
	}
	if it.audit != nil {
		r.cfg.Log.Error("an audit record was lost: the database refuses it", "action", it.audit.Action, "err", refusal)
	} else {
		r.cfg.Log.Error("a session's record was lost: the database refuses it", "session", it.rec.ServerID,
			"application", it.rec.Application, "ended", it.rec.EndedAt != 0, "err", refusal)
	}
	r.metrics.dropped.Inc()
	r.mu.Lock()
	r.dropped++
	r.mu.Unlock()
	r.queue.settle([]*item{it}, refusal)
	r.answered()
	return nil
}

// attempt is one call of Records.Write. The store counts as away while it takes longer than MaxWait, or fails after the oldest
// record has waited that long, also when no Commit waits.
func (r *Recorder) attempt(ctx context.Context, records []Record, denials []Denial, audits []Audit) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var returned atomic.Bool
	slow := time.AfterFunc(r.cfg.MaxWait, func() { r.setAway(func() bool { return !returned.Load() }) })
	defer slow.Stop()
	start := time.Now()
	err := r.cfg.Records.Write(ctx, records, denials, audits...)
	returned.Store(true)
	r.metrics.seconds.Observe(time.Since(start).Seconds())
	switch {
	case err == nil:
		r.metrics.batch.Observe(float64(len(records)))
		return nil
	case errors.Is(err, ErrRefused):
		return err
	}
	r.metrics.failures.Inc()
	r.mu.Lock()
	r.lastErr = err
	r.mu.Unlock()
	if _, _, oldest := r.queue.stats(); time.Since(oldest) >= r.cfg.MaxWait {
		r.setAway(func() bool { return true })
	}
	return err
}
