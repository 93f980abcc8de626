package gateway

import (
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// TestDisconnectMatching: those that match at both times are told and their tokens denied, as by a disconnect of one; who authorized
// itself into the search since then stays.
func TestDisconnectMatching(t *testing.T) {
	f := newFixture(t, Limits{})
	one, two := token(time.Hour, "license", "STOLEN-1"), token(time.Hour, "license", "stolen-2", "jti", "x")
	a, b := f.open(`"application":"123456789","token":"`+one+`"`), f.open(`"application":"123456789","token":"`+two+`"`)
	lease := f.lease(token(time.Hour, "license", "STOLEN-3"), "")
	into, fine := f.openKey(), f.open(`"application":"123456789","token":"`+token(time.Hour, "license", "FINE")+`"`)
	at := api.MillisOf(time.Now())
	for api.MillisOf(time.Now()) == at {
		time.Sleep(time.Millisecond) // the next millisecond is a later one
	}
	into.text(`{"type":"authorize","token":"` + token(time.Hour, "license", "STOLEN-4") + `"}`)
	into.next()
	org := f.record(a.id).Organization
	q := registry.Query{Organization: org, Application: appID, Search: "stolen", Categories: registry.License}
	if n := f.g.DisconnectMatching(q, at, "key1", "why"); n != 3 {
		t.Errorf("ended %d", n)
	}
	for _, c := range []*client{a, b} {
		if got := c.rest(); len(got) != 2 || got[1] != "close 4100 why" {
			t.Errorf("%v", got)
		}
	}
	lease.wantGone(api.EndDisconnected, true)
	for _, id := range []api.SessionID{a.id, b.id, lease.id} {
		if r := f.wantEnd(id, api.EndDisconnected); r.EndedBy != "key1" || r.EndText != "why" {
			t.Errorf("record %+v", r)
		}
	}
	for _, tok := range []string{one, two} {
		again := f.connect()
		again.text(`{"type":"hello","application":"123456789","token":"` + tok + `"}`)
		if got := again.rest(); len(got) != 3 {
			t.Errorf("a token of an ended session: %v", got)
		}
	}
	for _, id := range []api.SessionID{into.id, fine.id} {
		if _, live := f.registry.Get(appID, id); !live {
			t.Error("a session was ended that did not match at both times")
		}
	}
	if n := f.g.DisconnectMatching(q, at, "key1", ""); n != 0 {
		t.Errorf("ended %d more", n)
	}
	q.Search = ""
	if n := f.g.DisconnectMatching(q, api.MillisOf(time.Now()), "key1", ""); n != 2 {
		t.Errorf("ended %d of all", n)
	}
}

// TestAdoptedLeaseMatches: a lease knows in its next life when it began to match.
func TestAdoptedLeaseMatches(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease("", "")
	before := api.MillisOf(time.Now())
	for api.MillisOf(time.Now()) == before {
		time.Sleep(time.Millisecond)
	}
	h.token = token(time.Hour, "license", "STOLEN")
	if r := h.beat(); r.status != 200 {
		t.Fatal(r)
	}
	changed := api.MillisOf(time.Now())
	f.letGo()
	n := f.next()
	if r := h.at(n).beat(); r.status != 200 {
		t.Fatal(r)
	}
	q := registry.Query{Organization: n.record(h.id).Organization, Application: appID, Search: "stolen"}
	if _, found := n.registry.Matching(q, before); found != 0 {
		t.Error("it matched before it changed")
	}
	if _, found := n.registry.Matching(q, changed); found != 1 {
		t.Error("it did not match after it changed")
	}
}
