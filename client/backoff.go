package client

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff spreads the returns of many clients over time: each wait is drawn from the whole of [0, ceiling), and the ceiling
// doubles with every attempt. Full jitter, because after a restart all clients come back at once: waits that share a lower bound
// stay a crowd.
type backoff struct {
	min, max time.Duration
	attempt  int
}

// next returns how long to wait before the next attempt, and counts it. The server's own wish is a lower bound.
func (b *backoff) next(atLeast time.Duration) time.Duration {
	ceiling := b.max
	if b.attempt < 30 && b.min<<b.attempt < b.max {
		ceiling = b.min << b.attempt
	}
	b.attempt++
	return atLeast + rand.N(ceiling)
}

func (b *backoff) reset() { b.attempt = 0 }

// sleep returns false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
