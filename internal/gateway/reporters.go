package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// reporters are those who report sessions, with the ends that they have yet to hear of. Only memory knows these: after a restart a
// heartbeat tells.
type reporters struct {
	mu  sync.Mutex
	all map[reporterKey]*reporter
}

type reporterKey struct {
	application api.ApplicationID
	name        string
}

// reporter is guarded by reporters.mu.
type reporter struct {
	ends []api.LeaseEnded // at most maxEnds
	wake chan struct{}    // closed when there is an end; nil when nobody waits
	used time.Time

	nodes map[string]bool // other nodes that hold leases of the reporter
}

const (
	// maxReporters are remembered on a node; more forget the one that was heard of least recently.
	maxReporters = 10_000
	// maxEnds wait for a reporter; more forget the oldest.
	maxEnds = 10_000
)

// ended tells the reporter of an end. One that has never called here is not waited for.
func (rs *reporters) ended(key reporterKey, id api.SessionID, why api.EndReason) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.all[key]
	if r == nil {
		return
	}
	r.addLocked(api.LeaseEnded{ID: id, Reason: why, Reauthenticate: why.Reauthenticate()})
}

func (r *reporter) addLocked(e api.LeaseEnded) {
	if len(r.ends) >= maxEnds {
		r.ends = append(r.ends[:0:0], r.ends[maxEnds/10:]...)
	}
	r.ends = append(r.ends, e)
	r.wakeLocked()
}

func (r *reporter) wakeLocked() {
	if r.wake != nil {
		close(r.wake)
		r.wake = nil
	}
}

// meet makes the reporter known: from now on it is told of ends.
func (rs *reporters) meet(key reporterKey) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	rs.meetLocked(key)
}

func (rs *reporters) meetLocked(key reporterKey) *reporter {
	r := rs.all[key]
	if r == nil {
		if rs.all == nil {
			rs.all = map[reporterKey]*reporter{}
		}
		if len(rs.all) >= maxReporters {
			rs.forgetLocked()
		}
		r = &reporter{}
		rs.all[key] = r
	}
	r.used = time.Now()
	return r
}

// forgetLocked makes room for a newcomer.
func (rs *reporters) forgetLocked() {
	var oldest reporterKey
	var used time.Time
	for key, r := range rs.all {
		if used.IsZero() || r.used.Before(used) {
			oldest, used = key, r.used
		}
	}
	rs.all[oldest].wakeLocked()
	delete(rs.all, oldest)
}

// take returns what the reporter has yet to hear of, at most MaxBatchEnded, and, when that is nothing, what to wait for. Of
// several who wait, one is given it.
func (rs *reporters) take(key reporterKey, wait bool) (ends []api.LeaseEnded, wake <-chan struct{}) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.meetLocked(key)
	n := min(len(r.ends), api.MaxBatchEnded)
	ends = append([]api.LeaseEnded{}, r.ends[:n]...)
	if r.ends = append(r.ends[:0:0], r.ends[n:]...); n > 0 || !wait {
		return ends, nil
	}
	if r.wake == nil {
		r.wake = make(chan struct{})
	}
	return ends, r.wake
}

// Ended returns the sessions that the reporter reported and that have ended since it was told last, by somebody else. When there are
// none it waits for one, for at most the given time, until ctx ends, or the node drains. Other nodes that hold sessions of the
// reporter are asked when it is called: what ends there meanwhile is for the next call.
func (g *Gateway) Ended(ctx context.Context, app api.ApplicationID, reporter string, wait time.Duration) []api.LeaseEnded {
	key := reporterKey{app, reporter}
	g.collectEnds(ctx, key)
	ends, wake := g.reporters.take(key, wait > 0)
	if wake == nil {
		return ends
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
	case <-g.stopping:
	}
	ends, _ = g.reporters.take(key, false)
	return ends
}
