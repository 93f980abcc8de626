package gateway

import (
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// cause is why a session ends, and what its client is told.
type cause struct {
	// close is the close frame's code; 0 closes without a word.
	close api.CloseCode
	// quiet leaves the disconnect frame out: the client closes, and knows why.
	quiet        bool
	text         string // the disconnect frame's reason; "" = that of page 3's table
	retryAfterMs int64
	refusal      *api.Error // goes before the disconnect frame as an error frame
	limit        string     // that was reached, where the rest does not say it

	// reason, by and note are recorded. deny refuses every token that the session has presented.
	reason   api.EndReason
	by, note string
	deny     bool
}

// ending is the end of one session, claimed by one caller: settle, then tell, exactly once each.
type ending struct {
	session *session
	cause   cause
	live    bool // has a row and a record
	record  store.Record
	denials []store.Denial
}

// claim makes the caller the one who ends the session; false when it has ended, or is being ended, already.
func (s *session) claim(c cause) (ending, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != nil {
		return ending{}, false
	}
	s.told = make(chan struct{})
	e := ending{session: s, cause: c, live: s.live, record: s.record}
	now := s.gateway.now()
	e.record.EndedAt, e.record.EndReason = max(now, s.record.CreatedAt), c.reason
	e.record.EndedBy, e.record.EndText, e.record.LastActiveAt = c.by, c.note, s.activeAt
	if c.deny {
		e.denials = denials(s.tokens, now)
	}
	return e, true
}

// clockMargin is how long a token counts as unexpired that is to be denied or remembered for it: by this much this node's clock may be
// ahead of that of another, where the token would be good again. Longer, and a session that renews its token as often as it may would
// present more of them than it may.
const clockMargin = 90 * time.Second

// unexpired returns the denials that still matter, here or on a node whose clock is behind.
func unexpired(tokens []store.Denial, now api.Millis) []store.Denial {
	var left []store.Denial
	for _, t := range tokens {
		if t.ExpiresAt.Add(clockMargin) > now {
			left = append(left, t)
		}
	}
	return left
}

// end ends the session, if this is the first to do so, and returns whether it was. The order is: tokens are denied, the record has
// ended, the row is gone, the client is told.
func (s *session) end(c cause) bool {
	e, ok := s.claim(c)
	if !ok {
		return false
	}
	if len(e.denials) > 0 {
		s.gateway.cfg.Tenants.Deny(e.denials)
	}
	e.settle()
	e.tell()
	return true
}

// settle ends the record and takes the row away, in this order: whoever looks in the registry and then at the records misses
// nothing.
func (e *ending) settle() {
	g := e.session.gateway
	g.metrics.limited(e.cause)
	if !e.live {
		code := g.metrics.refused(e.cause)
		g.log.Debug("connection ended without a session", "ip", e.record.IP, "code", code)
		return
	}
	g.cfg.Records.End(e.record, e.denials...)
	g.cfg.Registry.Remove(e.record.Application, e.record.ServerID)
	g.mu.Lock()
	delete(g.live, sessionKey{e.record.Application, e.record.ID})
	g.mu.Unlock()
	g.metrics.ended.WithLabelValues(string(e.cause.reason)).Inc()
	g.log.Debug("session ended", "session", e.record.ID, "reason", e.cause.reason, "by", e.cause.by)
}

// tell sends the last frames and begins to close the connection.
func (e *ending) tell() {
	defer close(e.session.told)
	if l := e.session.lease(); l != nil {
		l.tell(e)
		return
	}
	c := &e.cause
	if c.close == 0 {
		_ = e.session.socket.Close()
		return
	}
	var frames []byte
	if c.refusal != nil {
		frames = websock.AppendText(frames, encodeError(c.refusal))
	}
	reason := ""
	if !c.quiet {
		d := api.NewDisconnect(c.close, c.text, c.retryAfterMs)
		frames, reason = websock.AppendText(frames, encode(d)), d.Reason
	}
	e.session.socket.BeginClose(frames, c.close, reason)
}

// awaitTold returns when the end that someone has claimed is complete; at once when nobody has.
func (s *session) awaitTold() {
	s.mu.Lock()
	told := s.told
	s.mu.Unlock()
	if told != nil {
		<-told
	}
}

// hasEnded tells whether someone has claimed the session's end.
func (s *session) hasEnded() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told != nil
}
