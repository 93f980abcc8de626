package mcp

import "time"

// maxRemembered bounds each remembered: what falls out is asked of Rollcall again.
const maxRemembered = 65_536

// remembered is a bounded set of what has been refused lately. The oldest fall out first. It is guarded by whoever has it.
type remembered[K comparable] struct {
	until map[K]time.Time
	order []K // oldest first; one entry for each key
}

func newRemembered[K comparable]() *remembered[K] { return &remembered[K]{until: map[K]time.Time{}} }

func (r *remembered[K]) add(k K, until time.Time) {
	if _, has := r.until[k]; !has {
		if len(r.order) == maxRemembered {
			delete(r.until, r.order[0])
			r.order = r.order[1:]
		}
		r.order = append(r.order, k)
	}
	r.until[k] = until
}

func (r *remembered[K]) has(k K, now time.Time) bool {
	until, has := r.until[k]
	return has && now.Before(until)
}

// knows tells whether k is or was in the set.
func (r *remembered[K]) knows(k K) bool {
	_, has := r.until[k]
	return has
}
