package gateway

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// peer is Elsewhere: one other node.
type peer struct {
	*fixture
	lists   bool // the asking node has its list
	mute    bool // it does not answer
	missing bool // the asking node knows that it lacks some
	asked   int
}

func (p *peer) Missing() bool    { return p.missing }
func (p *peer) Others() []string { return []string{p.name} }

func (p *peer) Holder(app api.ApplicationID, id api.SessionID) string {
	if _, there := p.registry.Get(app, id); there && p.lists {
		return p.name
	}
	return ""
}

func (p *peer) Living(incarnation int64) string {
	if incarnation == p.node {
		return p.name
	}
	return ""
}

func (p *peer) Ask(ctx context.Context, _ string, question []byte) ([]byte, error) {
	p.asked++
	if p.mute {
		return nil, errors.New("no answer")
	}
	return p.g.Answer(ctx, question)
}

// beside returns another node, which reaches the fixture's.
func (f *fixture) beside(lists bool) (*fixture, *peer) {
	f.Helper()
	name := f.name
	f.name = "srv-02"
	n := f.next()
	f.name = name
	p := &peer{fixture: f, lists: lists}
	n.g.elsewhere = p
	return n, p
}

// eachList runs a test with a node that has the other's list, and one that has it not yet.
func eachList(t *testing.T, run func(t *testing.T, lists bool)) {
	t.Run("listed", func(t *testing.T) { run(t, true) })
	t.Run("not listed", func(t *testing.T) { run(t, false) })
}

// TestLeaseElsewhere: a request for a lease is served by the node that holds it, whichever it reaches (page 3).
func TestLeaseElsewhere(t *testing.T) {
	eachList(t, func(t *testing.T, lists bool) {
		f := newFixture(t, Limits{})
		first, second := token(time.Hour, "jti", "a"), token(2*time.Hour, "jti", "b")
		h, anybody := f.lease(first, ""), f.lease("", "")
		n, _ := f.beside(lists)
		there := h.at(n)
		if r := n.call(there.c, "POST", h.path("/heartbeat"), second, `{"hostname":"moved"}`); r.status != 200 ||
			r.body["session"].(map[string]any)["hostname"] != "moved" || r.header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Error(r)
		}
		if rec := f.record(h.id); rec.Hostname != "moved" || len(rec.Lease.Tokens) != 2 || rec.Lease.OwnerEpoch != 0 {
			t.Errorf("%+v, lease %+v", rec, rec.Lease)
		}
		if r := anybody.at(n).beat(); r.status != 200 {
			t.Error(r)
		}
		for _, tt := range []struct {
			token, body string
			status      int
			code        api.Code
		}{
			{token(time.Hour, "sub", "jane"), "", 401, api.CodeTokenMismatch},
			{first, `{"hostname":7}`, 400, api.CodeValidation},
			{first, `{"what":7}`, 400, api.CodeValidation},
			{"x", "", 401, api.CodeTokenInvalid},
		} {
			if r := n.call(there.c, "POST", h.path("/heartbeat"), tt.token, tt.body); !r.is(tt.status, tt.code) {
				t.Error(r)
			}
		}
		if r := anybody.at(n).bye(); r.status != 204 {
			t.Error(r)
		}
		f.wantEnd(anybody.id, api.EndClientClosed)
		if r := anybody.at(n).bye(); r.status != 204 {
			t.Error(r)
		}
		f.g.Disconnect(t.Context(), appID, f.record(h.id).ServerID, "key1", "why")
		there.wantGone(api.EndDisconnected, true)
		if n.live() != 0 || f.live() != 0 {
			t.Error("it was adopted")
		}
	})
}

// TestLeaseHolderDoesNotAnswer: nobody adopts the lease of a node that is believed to live.
func TestLeaseHolderDoesNotAnswer(t *testing.T) {
	eachList(t, func(t *testing.T, lists bool) {
		f := newFixture(t, Limits{})
		h, id := f.lease(token(time.Hour), ""), newSession()
		f.want(f.report(openItem(id)), "ok")
		f.records.Flush(t.Context())
		n, p := f.beside(lists)
		p.mute = true
		for _, r := range []reply{h.at(n).beat(), h.at(n).bye(), n.call(n.http(), "GET", h.path("/events"), h.token, "")} {
			if !r.is(503, api.CodeUnavailable) || r.header.Get("Retry-After") == "" {
				t.Error(r, r.header)
			}
		}
		n.want(n.report(beatItem(id), openItem(id), endItem(id)), "unavailable", "unavailable", "unavailable")
		if f.live() != 2 || n.live() != 0 {
			t.Errorf("%d and %d sessions", f.live(), n.live())
		}
		n.g.elsewhere = nowhere{} // it has died
		if r := h.at(n).beat(); r.status != 200 {
			t.Error(r)
		}
		n.want(n.report(beatItem(id)), "ok")
		if n.live() != 2 {
			t.Errorf("%d sessions", n.live())
		}
	})
}

// TestEventsMoveTheLease: an event stream takes its lease along.
func TestEventsMoveTheLease(t *testing.T) {
	eachList(t, func(t *testing.T, lists bool) {
		f := newFixture(t, Limits{})
		h := f.lease(token(time.Hour), "")
		if r := f.call(h.c, "POST", h.path("/heartbeat"), h.token, `{"hostname":"before"}`); r.status != 200 {
			t.Fatal(r)
		}
		old := h.watch()
		n, _ := f.beside(lists)
		s := h.at(n).watch()
		if got := old.rest(); len(got) != 0 {
			t.Errorf("the old stream said %v", got)
		}
		if f.live() != 0 || n.live() != 1 {
			t.Errorf("%d and %d sessions", f.live(), n.live())
		}
		if rec := n.record(h.id); rec.Hostname != "before" || rec.Lease.OwnerEpoch != 1 || rec.EndedAt != 0 {
			t.Errorf("%+v", rec)
		}
		n.g.Disconnect(t.Context(), appID, n.record(h.id).ServerID, "key1", "")
		if got := s.rest(); len(got) != 1 {
			t.Error(got)
		}
	})
}

// TestReportElsewhere: what servers report of sessions that another node holds is done there, and they hear of their ends.
func TestReportElsewhere(t *testing.T) {
	eachList(t, func(t *testing.T, lists bool) {
		f := newFixture(t, Limits{})
		a, b, c, own := newSession(), newSession(), newSession(), f.lease(token(time.Hour), "")
		f.want(f.report(openItem(a), openItem(b), openItem(c)), "ok", "ok", "ok")
		f.records.Flush(t.Context())
		n, p := f.beside(lists)
		beat := beatItem(a)
		beat.LeaseSeconds = 600
		n.want(n.report(openItem(newSession()), beat, openItem(b), endItem(c), beatItem(own.id), beatItem(c)),
			"ok", "ok", "ok", "ok", "conflict", "client_closed")
		if p.asked != 1 {
			t.Errorf("asked %d times", p.asked)
		}
		if rec := f.record(a); rec.Lease.Seconds != 600 || rec.Lease.OwnerEpoch != 0 {
			t.Errorf("%+v", rec.Lease)
		}
		f.wantEnd(c, api.EndClientClosed)
		if n.live() != 1 || f.live() != 3 {
			t.Errorf("%d and %d sessions", n.live(), f.live())
		}
		f.g.Disconnect(t.Context(), appID, f.record(a).ServerID, "key1", "")
		ends := n.g.Ended(t.Context(), appID, "key1/", 0)
		if len(ends) != 1 || ends[0].ID != a || ends[0].Reason != api.EndDisconnected {
			t.Errorf("told of %v", ends)
		}
		n.want(n.report(beatItem(a)), "disconnected")
		f.letGo()
		n.want(n.report(beatItem(b)), "ok")
		if n.live() != 2 {
			t.Error("what the other node let go of was not adopted")
		}
	})
}

// TestEndUnheldElsewhere: an operator ends a lease whose node lives at that node, also when its list is not here yet.
func TestEndUnheldElsewhere(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), "")
	n, p := f.beside(false)
	p.mute = true
	if did, err := n.g.EndUnheld(t.Context(), appID, h.id, "key1", ""); did || api.CodeOf(err) != api.CodeUnavailable {
		t.Error(did, err)
	}
	p.mute = false
	if did, err := n.g.EndUnheld(t.Context(), appID, h.id, "key1", "why"); !did || err != nil {
		t.Error(did, err)
	}
	if rec := f.wantEnd(h.id, api.EndDisconnected); rec.EndedBy != "key1" || rec.EndText != "why" {
		t.Errorf("%+v", rec)
	}
	if f.live() != 0 {
		t.Error("it is still connected")
	}
}

// TestUnknownWhileNodesAreMissing: a node that cannot be reached may hold a lease of which the database knows nothing yet (G9).
func TestUnknownWhileNodesAreMissing(t *testing.T) {
	f := newFixture(t, Limits{})
	n, p := f.beside(false)
	h := &holder{fixture: n, c: n.http(), id: newSession(), token: token(time.Hour)}
	for _, p.missing = range []bool{false, true} {
		status, code := 404, api.CodeSessionNotFound
		if p.missing {
			status, code = 503, api.CodeUnavailable
		}
		for _, tok := range []string{h.token, token(time.Hour, "aud", appID.String())} {
			if r := n.call(h.c, "POST", h.path("/heartbeat"), tok, ""); !r.is(status, code) {
				t.Error(r)
			}
		}
		n.want(n.report(beatItem(newSession()), endItem(newSession()), openItem(newSession())), string(code), string(code), "ok")
	}
}

// TestOpenedWithoutStore: what its node could not write yet is asked of it, by whichever node (G9).
func TestOpenedWithoutStore(t *testing.T) {
	f := newFixture(t, Limits{})
	away := &awayRecords{Records: f.db.Records()}
	away.set(true)
	f.g.cfg.Records = store.NewRecorder(store.RecorderConfig{Records: away, MaxWait: time.Millisecond, Incarnation: f.node})
	h, named, id, over := f.lease(token(time.Hour), ""), f.lease(token(time.Hour, "aud", appID.String(), "jti", "b"), ""), newSession(), newSession()
	f.want(f.report(openItem(id), openItem(over), endItem(over)), "ok", "ok", "ok")
	n, p := f.beside(false)
	for _, h := range []*holder{h, named} {
		if r := h.at(n).beat(); r.status != 200 {
			t.Error(r)
		}
	}
	n.want(n.report(beatItem(id), endItem(over), beatItem(over)), "ok", "ok", "client_closed")
	if n.live() != 0 || f.live() != 3 {
		t.Errorf("%d and %d sessions", n.live(), f.live())
	}
	// That it knows of no such session counts once all that it knows is written.
	unknown := &holder{fixture: n, c: n.http(), id: newSession(), token: named.token}
	if r := unknown.beat(); !r.is(503, api.CodeUnavailable) {
		t.Error(r)
	}
	n.want(n.report(beatItem(newSession())), "unavailable")
	f.g.Disconnect(t.Context(), appID, api.NewServerID(f.name, named.id), "key1", "")
	named.at(n).wantGone(api.EndDisconnected, true)
	p.mute = true
	if r := h.at(n).beat(); !r.is(503, api.CodeUnavailable) {
		t.Error(r)
	}
}

// TestListedLeaseNeedsNoStore: a lease that another node lists is served there, also where the database does not answer (G9).
func TestListedLeaseNeedsNoStore(t *testing.T) {
	f := newFixture(t, Limits{})
	h, id := f.lease(token(time.Hour, "aud", appID.String()), ""), newSession()
	f.want(f.report(openItem(id)), "ok")
	n, _ := f.beside(true)
	away := &awayRecords{Records: n.db.Records()}
	away.set(true)
	n.g.cfg.Records = store.NewRecorder(store.RecorderConfig{Records: away, MaxWait: time.Millisecond, Incarnation: n.node})
	if r := h.at(n).beat(); r.status != 200 {
		t.Error(r)
	}
	n.want(n.report(beatItem(id)), "ok")
	if r := h.at(n).bye(); r.status != 204 {
		t.Error(r)
	}
	f.wantEnd(h.id, api.EndClientClosed)
}

// TestReconcile: nodes that cannot hear of each other may both hold a lease; what the records say decides, an end that somebody asked
// for before all (page 3).
func TestReconcile(t *testing.T) {
	f := newFixture(t, Limits{})
	moved, ended, kicked := f.lease(token(time.Hour, "jti", "a"), ""), f.lease(token(time.Hour, "jti", "b"), ""), f.lease(token(time.Hour, "jti", "c"), "")
	bye, stays, ran := f.lease(token(time.Hour, "jti", "d"), ""), f.lease(token(time.Hour, "jti", "e"), ""), f.lease(token(time.Hour, "jti", "f"), "")
	f.records.Flush(t.Context())
	n, _ := f.beside(false)
	n.g.elsewhere = nowhere{}
	for _, h := range []*holder{moved, ended, kicked, bye, ran} {
		if r := h.at(n).beat(); r.status != 200 {
			t.Fatal(r)
		}
	}
	stream := ended.watch()
	n.g.Disconnect(t.Context(), appID, n.record(ended.id).ServerID, "key1", "why")
	f.g.Disconnect(t.Context(), appID, f.record(kicked.id).ServerID, "key2", "")
	if r := bye.bye(); r.status != 204 {
		t.Fatal(r)
	}
	if f.live() != 4 || n.live() != 4 {
		t.Fatalf("%d and %d sessions", f.live(), n.live())
	}
	f.g.leases[sessionKey{appID, ran.id}].session.end(cause{reason: api.EndLeaseExpired}) // its client had gone to the other node
	for _, node := range []*fixture{f, n} {
		f.records.Flush(t.Context())
		n.records.Flush(t.Context())
		if err := node.g.Reconcile(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if f.live() != 1 || n.live() != 2 {
		t.Errorf("%d and %d sessions", f.live(), n.live())
	}
	if got := stream.rest(); len(got) != 1 {
		t.Errorf("the stream said %v", got)
	}
	f.wantEnd(ended.id, api.EndDisconnected)
	kicked.at(n).wantGone(api.EndDisconnected, true)
	bye.at(n).wantGone(api.EndClientClosed, false)
	for node, h := range map[*fixture]*holder{n: moved, f: stays} {
		if r := h.at(node).beat(); r.status != 200 {
			t.Error(r)
		}
	}
	if rec := n.record(ran.id); rec.EndedAt != 0 {
		t.Errorf("%+v", rec)
	}
	if rec := n.record(kicked.id); rec.EndedBy != "key2" {
		t.Errorf("%+v", rec)
	}
}
