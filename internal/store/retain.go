package store

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

const (
	// retainBatch keeps a transaction of Retain to a few milliseconds, and retainPause leaves the writer to others between them.
	retainBatch = 500
	retainPause = 10 * time.Millisecond
)

// Retain deletes what is past its organization's history retention, audit records too, and returns how many records that were. retention yields
// organizations with their plans' HistoryRetention; what ended longer ago than that is deleted. It works in small batches with
// pauses, so that writes wait for milliseconds at most, and stops early, without an error, while the store is away. An
// organization that fails does not keep the others from their turn.
func (r *Recorder) Retain(ctx context.Context, now api.Millis,
	retention iter.Seq2[api.OrganizationID, time.Duration]) (total int, err error) {
	if r.isAway() {
		return 0, nil
	}
	var errs []error
	for org, keep := range retention {
		for _, expire := range r.expirers() {
			n, err := r.retain(ctx, func(ctx context.Context) (int, error) { return expire(ctx, org, now.Add(-keep), retainBatch) })
			total += n
			if ctx.Err() != nil || r.isAway() {
				return total, errors.Join(append(errs, err)...)
			}
			errs = append(errs, err)
		}
	}
	return total, errors.Join(errs...)
}

// expirers are what deletes old rows, of each table that has a retention.
func (r *Recorder) expirers() []expirer {
	if r.cfg.Audits == nil {
		return []expirer{r.cfg.Records.Expire}
	}
	return []expirer{r.cfg.Records.Expire, r.cfg.Audits.Expire}
}

type expirer func(ctx context.Context, org api.OrganizationID, before api.Millis, limit int) (int, error)

// retain deletes batches until one is not full, there is trouble, or it is time to stop.
func (r *Recorder) retain(ctx context.Context, batch func(context.Context) (int, error)) (total int, err error) {
	for !r.isAway() {
		n, err := batch(ctx)
		total += n
		if err != nil || n < retainBatch || ctx.Err() != nil {
			return total, err
		}
		if !sleep(ctx, retainPause) {
			return total, ctx.Err()
		}
	}
	return total, nil
}
