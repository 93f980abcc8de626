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

// Retain deletes what is past its organization's history retention, and returns how many records that were. retention yields
// organizations with their plans' HistoryRetention; what ended longer ago than that is deleted. It works in small batches with
// pauses, so that writes wait for milliseconds at most, and stops early, without an error, while the store is away. An
// organization that fails does not keep the others from their turn.
func (r *Recorder) Retain(ctx context.Context, now api.Millis,
	retention iter.Seq2[api.OrganizationID, time.Duration]) (total int, err error) {
	var errs []error
	for org, keep := range retention {
		for {
			if r.isAway() {
				return total, errors.Join(errs...)
			}
			var n int
			n, err = r.cfg.Records.Expire(ctx, org, now.Add(-keep), retainBatch)
			total += n
			if err != nil {
				errs = append(errs, err)
			}
			if ctx.Err() != nil {
				return total, errors.Join(errs...)
			}
			if err != nil || n < retainBatch {
				break
			}
			if !sleep(ctx, retainPause) {
				return total, ctx.Err()
			}
		}
	}
	return total, errors.Join(errs...)
}
