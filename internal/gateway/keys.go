package gateway

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/rollcallhq/rollcall/internal/tenant"
)

// keysWait is how long a hello or an authorize waits for the keys of its token's issuer: a fetch may have to wait for its turn, and
// then takes 5 s at most.
const keysWait = 8 * time.Second

// question is a token that waits to be judged; zero the first time.
type question struct{ presented, by time.Time }

// postponed is a frame whose token cannot be judged before keys were fetched. Nothing more is read of the session meanwhile.
type postponed struct {
	question
	fetched <-chan struct{}
	again   func(question)

	// Of the driver that parks: whether somebody awaits it, and whether it has been awaited.
	awaited bool
	came    atomic.Bool
}

// postpone has the frame that asked come again when the keys that it needs may be here; false when err is not for want of keys, or
// when they were waited for long enough.
func (s *session) postpone(q question, err error, again func(question)) bool {
	pending, ok := errors.AsType[*tenant.KeysPending](err)
	if !ok {
		return false
	}
	now := time.Now()
	if q.by.IsZero() {
		q.by = now.Add(keysWait)
	}
	q.presented = pending.Since
	if !now.Before(q.by) {
		return false
	}
	s.postponed = &postponed{question: q, fetched: pending.Done, again: again}
	return true
}

// await returns when the frame is to come again. It touches nothing of the session.
func (p *postponed) await(stopping <-chan struct{}) {
	timer := time.NewTimer(time.Until(p.by))
	defer timer.Stop()
	select {
	case <-p.fetched:
	case <-timer.C:
	case <-stopping: // the session has been told
	}
}

// resume handles the postponed frame again.
func (s *session) resume() {
	p := s.postponed
	s.postponed = nil
	restart(&s.pongBy, time.Now().Add(s.gateway.limits.PongTimeout)) // nothing was read meanwhile
	if !s.hasEnded() {
		p.again(p.question)
	}
}
