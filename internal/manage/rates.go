package manage

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// rates bounds the requests of each API key. Only keys that authenticated are remembered, so that guessing costs no memory.
type rates struct {
	mu   sync.Mutex
	keys map[string]*allowance // by public id
}

// allowance is a key's: streams have their own burst, as large as the number that a key may hold, so that a backend can restore all
// of its streams after a restart of either side.
type allowance struct {
	requests, streams *rate.Limiter
	used              time.Time
}

// forget is how long an allowance is kept unused; by then it is full again.
const forget = 10 * time.Minute

// take takes one request out of the key's allowance; when there is none left it returns how long to wait.
func (r *rates) take(key string, stream bool, limits Limits, now time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	al := r.keys[key]
	if al == nil {
		limit := rate.Limit(limits.RequestsPerSecond)
		al = &allowance{requests: rate.NewLimiter(limit, limits.RequestBurst), streams: rate.NewLimiter(limit, limits.StreamsPerKey)}
		if r.keys == nil {
			r.keys = map[string]*allowance{}
		}
		r.keys[key] = al
	}
	al.used = now
	limiter := al.requests
	if stream {
		limiter = al.streams
	}
	reservation := limiter.ReserveN(now, 1)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

// prune forgets allowances that are full again.
func (r *rates) prune(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, al := range r.keys {
		if now.Sub(al.used) > forget {
			delete(r.keys, key)
		}
	}
}
