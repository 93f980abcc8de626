package manage

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// recheckEvery, and the half second after which a directory has noticed any change, keep G7's second.
const recheckEvery = 200 * time.Millisecond

// streams are the open streams of this node.
type streams struct {
	running sync.WaitGroup // handlers of streams; Add only under mu while not draining

	mu       sync.Mutex
	draining bool
	open     map[*stream]struct{}
	perKey   map[string]int // how many of open each key has, by public id; no zeros
}

// enrol takes a place for s, before the upgrade: past the limit, or while draining, the refusal is still an HTTP error.
func (ss *streams) enrol(s *stream, limit int) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.draining {
		return api.Errorf(api.CodeUnavailable, "this node is draining; connect again to reach another")
	}
	if ss.perKey[s.key.PublicID] >= limit {
		return &api.Error{Code: api.CodeRateLimited, RetryAfter: time.Second, Message: fmt.Sprintf(
			"this API key has %d streams open, as many as it may on a node; close one, or try again in %s s", limit, retryAfter(time.Second))}
	}
	if ss.open == nil {
		ss.open, ss.perKey = map[*stream]struct{}{}, map[string]int{}
	}
	ss.open[s] = struct{}{}
	ss.perKey[s.key.PublicID]++
	ss.running.Add(1)
	return nil
}

func (ss *streams) leave(s *stream) {
	ss.mu.Lock()
	delete(ss.open, s)
	if ss.perKey[s.key.PublicID]--; ss.perKey[s.key.PublicID] == 0 {
		delete(ss.perKey, s.key.PublicID)
	}
	ss.mu.Unlock()
	ss.running.Done()
}

// Streams returns how many live streams are open, those that are being upgraded included.
func (a *API) Streams() int {
	a.streams.mu.Lock()
	defer a.streams.mu.Unlock()
	return len(a.streams.open)
}

func (ss *streams) isDraining() bool {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	return ss.draining
}

func (ss *streams) all(into []*stream) []*stream {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for s := range ss.open {
		into = append(into, s)
	}
	return into
}

// Run rechecks open streams until ctx ends, then ends them with 1001 and returns when all have ended.
func (a *API) Run(ctx context.Context) error {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	var buf []*stream
	for {
		select {
		case now := <-tick.C:
			buf = a.streams.all(buf[:0])
			a.recheck(buf)
			clear(buf)
			a.rates.prune(now)
		case <-ctx.Done():
			a.drain()
			return nil
		}
	}
}

// recheck ends the streams whose call would be refused now. Many streams share a key and an application: each pair is judged once.
func (a *API) recheck(open []*stream) {
	type pair struct {
		key tenant.Key
		app api.ApplicationID
	}
	verdicts := make(map[pair]error)
	for _, s := range open {
		p := pair{s.key, s.app}
		err, judged := verdicts[p]
		if !judged {
			_, err = a.allowed(s.key, s.app)
			verdicts[p] = err
		}
		if err != nil {
			s.end(toldError(err), api.ClosePolicy)
		}
	}
}

// allowed makes the checks that a new call for the stream would meet, and returns the key as it is now.
func (a *API) allowed(key tenant.Key, app api.ApplicationID) (tenant.Key, error) {
	key, err := a.tenants.Recheck(key)
	if err != nil {
		return key, err
	}
	_, err = a.watchable(key, app.String())
	return key, err
}

func (a *API) drain() {
	a.streams.mu.Lock()
	a.streams.draining = true
	a.streams.mu.Unlock()
	for _, s := range a.streams.all(nil) {
		s.end(api.Errorf(api.CodeUnavailable, "this node is draining; connect again to reach another"), api.CloseGoingAway)
	}
	a.streams.running.Wait()
}
