package gateway

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// letGo drains the fixture, so that its leases are held by nobody.
func (f *fixture) letGo() {
	f.Helper()
	f.g.Drain(f.Context(), 0)
	f.records.Flush(f.Context())
}

// at is the same client on a later life of the node.
func (h *holder) at(f *fixture) *holder {
	return &holder{fixture: f, c: f.http(), id: h.id, token: h.token}
}

// TestAdopt: whatever its client asks first takes the lease up again: the same session, with all that it was.
func TestAdopt(t *testing.T) {
	f := newFixture(t, Limits{})
	beat, watch, bye, unauthorized := f.lease(token(time.Hour, "cid", "client-001", "jti", "a"), `"name":"n","leaseSeconds":600`),
		f.lease(token(time.Hour, "jti", "b"), ""), f.lease(token(time.Hour, "jti", "c"), ""), f.lease("", "")
	second := token(2*time.Hour, "cid", "client-001", "jti", "a2")
	if r := f.call(beat.c, "POST", beat.path("/heartbeat"), second, ""); r.status != 200 {
		t.Fatal(r)
	}
	before := f.record(beat.id)
	f.letGo()
	n := f.next()
	if n.live() != 0 {
		t.Error("listed before anybody took it up")
	}
	if r := beat.at(n).beat(); r.status != 200 || r.body["session"].(map[string]any)["name"] != "n" {
		t.Error(r)
	}
	after := n.record(beat.id)
	if after.Lease.OwnerEpoch != 1 || after.Incarnation != 2 || after.ServerID != before.ServerID || after.CreatedAt != before.CreatedAt ||
		after.TokenExpiresAt != before.TokenExpiresAt || after.Lease.Seconds != 600 || len(after.Lease.Tokens) != 2 {
		t.Errorf("%+v, lease %+v", after, after.Lease)
	}
	s := watch.at(n).watch()
	if r := bye.at(n).bye(); r.status != 204 {
		t.Error(r)
	}
	n.wantEnd(bye.id, api.EndClientClosed)
	if r := unauthorized.at(n).beat(); r.status != 200 {
		t.Error(r)
	}
	if n.live() != 3 {
		t.Errorf("%d sessions", n.live())
	}
	// An operator's end denies every token that the session presented, in whatever life.
	n.g.Disconnect(t.Context(), appID, before.ServerID, "key1", "")
	for _, tok := range []string{beat.token, second} {
		if r := n.call(beat.at(n).c, "POST", api.SessionsPath, tok, `{"application":"123456789"}`); !r.is(401, api.CodeTokenRevoked) {
			t.Errorf("opened with a token of an ended session: %v", r)
		}
	}
	n.g.Disconnect(t.Context(), appID, n.record(watch.id).ServerID, "key1", "")
	if got := s.rest(); len(got) != 1 {
		t.Error(got)
	}
	if v := n.metric("rollcall_leases_adopted_total{}"); v != 4 {
		t.Errorf("%v adopted", v)
	}
}

// TestAdoptedLeaseMeetsRevocation: what an operator did while nobody held the lease holds when somebody takes it up (G4).
func TestAdoptedLeaseMeetsRevocation(t *testing.T) {
	paused := api.ApplicationPaused
	for _, tt := range []struct {
		name   string
		token  string // "" = the publishable key
		act    func(f *fixture, h *holder)
		reason api.EndReason
		by     string
		again  bool
	}{
		{"revoke", token(time.Hour), revoke, api.EndRevoked, "key1", true},
		{"revoke, unauthorized", "", revoke, api.EndRevoked, "key1", true},
		{"pause", token(time.Hour), func(f *fixture, _ *holder) {
			_, _ = f.tenants.PatchApplication(f.Context(), appID, tenant.ApplicationInput{State: &paused}, "key1")
		}, api.EndApplicationPaused, "key1", false},
		{"archive", "", func(f *fixture, _ *holder) {
			_, _ = f.tenants.ArchiveApplication(f.Context(), appID, "key1")
		}, api.EndApplicationArchived, "key1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t, Limits{})
			h := f.lease(tt.token, "")
			f.letGo()
			tt.act(f, h)
			n := f.next()
			again := h.at(n)
			again.wantGone(tt.reason, tt.again)
			if r := n.wantEnd(h.id, tt.reason); r.EndedBy != tt.by {
				t.Errorf("%+v", r)
			}
			if n.live() != 0 {
				t.Error("it is listed")
			}
			n.records.Flush(t.Context())
			third := n.next()
			h.at(third).wantGone(tt.reason, tt.again)
		})
	}
}

// TestAdoptWithDeniedToken: a session stays whose token was denied for another's sake, whichever node takes it up (page 3).
func TestAdoptWithDeniedToken(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), "")
	f.letGo()
	if err := f.db.Records().Write(t.Context(), nil, f.record(h.id).Lease.Tokens); err != nil {
		t.Fatal(err)
	}
	n := f.next()
	if r := h.at(n).beat(); r.status != 200 || n.live() != 1 {
		t.Error(r)
	}
	if r := n.call(n.http(), "POST", api.SessionsPath, h.token, `{"application":"123456789"}`); !r.is(401, api.CodeTokenRevoked) {
		t.Error(r)
	}
}

func revoke(f *fixture, _ *holder) { _, _, _ = f.tenants.Revoke(f.Context(), appID, "key1", "") }

// TestAdoptDuringRevocation: a lease that is taken up while everything is being revoked is not connected when that has answered.
func TestAdoptDuringRevocation(t *testing.T) {
	f := newFixture(t, Limits{})
	var held []*holder
	for range 60 {
		held = append(held, f.lease("", ""))
	}
	f.letGo()
	n := f.next()
	var wg sync.WaitGroup
	for i, h := range held {
		again := h.at(n)
		wg.Go(func() {
			time.Sleep(time.Duration(i) * 200 * time.Microsecond)
			if r := again.beat(); r.status != 200 && r.status != 410 {
				t.Errorf("%v", r)
			}
		})
	}
	time.Sleep(6 * time.Millisecond)
	if _, _, err := n.tenants.Revoke(t.Context(), appID, "key1", ""); err != nil {
		t.Fatal(err)
	}
	for _, row := range n.registry.Sessions(appID, nil, 1000, 0, 0) {
		t.Errorf("session %s is connected", row.Session)
	}
	wg.Wait()
	if n.live() != 0 {
		t.Errorf("%d sessions came back", n.live())
	}
}

// TestAdoptMeetsTheDoor: a lease that is taken up when the registry knows of a revocation that this node's tenants do not, does not
// come in (G4).
func TestAdoptMeetsTheDoor(t *testing.T) {
	f := newFixture(t, Limits{})
	h, anonymous := f.lease(token(time.Hour), ""), f.lease("", "")
	f.letGo()
	n := f.next()
	n.registry.SetApplication(orgID, appID, registry.Gate{State: api.ApplicationActive, Epoch: 1, RevokedAt: 1}, 0)
	for _, h := range []*holder{h.at(n), anonymous.at(n)} {
		if r := h.beat(); !r.is(503, api.CodeUnavailable) {
			t.Errorf("%v", r)
		}
	}
	if n.live() != 0 || len(n.g.live) != 0 || len(n.g.leases) != 0 {
		t.Errorf("%d rows", n.live())
	}
	if _, _, err := n.tenants.Revoke(t.Context(), appID, "key1", ""); err != nil {
		t.Fatal(err)
	}
	h.at(n).wantGone(api.EndRevoked, true)
	anonymous.at(n).wantGone(api.EndRevoked, true)
}

// TestAdoptStrangers: a credential that is not the session's takes nothing up, and is told nothing.
func TestAdoptStrangers(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), "")
	f.letGo()
	n := f.next()
	again := h.at(n)
	for _, tt := range []struct {
		token  string
		status int
		code   api.Code
	}{
		{token(time.Hour, "sub", "eve"), 401, "token_mismatch"},
		{token(-time.Second), 401, "token_expired"},
		{pubKey, 401, "token_mismatch"},
		{"rca_0123456789abcdeg", 404, "session_not_found"},
		{h.token[:len(h.token)-4] + "AAAA", 401, "token_invalid"},
	} {
		if r := n.call(again.c, "POST", again.path("/heartbeat"), tt.token, ""); !r.is(tt.status, tt.code) {
			t.Errorf("want %d %s: %v", tt.status, tt.code, r)
		}
	}
	if rec := n.record(h.id); rec.Lease.OwnerEpoch != 0 || n.live() != 0 || len(n.g.leases) != 0 {
		t.Errorf("%+v, %d leases", rec, len(n.g.leases))
	}
}

// TestAdoptOnce: of many requests at the same time, on two lives of the node, one takes the lease up; the old owner drops its copy
// without a word when it hears of it.
func TestAdoptOnce(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), "")
	f.records.Flush(t.Context())
	old := h.watch()
	a, b := f.next(), f.next()
	var wg sync.WaitGroup
	for _, n := range []*fixture{a, b} {
		again := h.at(n)
		for range 8 {
			wg.Go(func() {
				if r := again.beat(); r.status != 200 && !r.is(503, api.CodeUnavailable) {
					t.Errorf("%v", r)
				}
			})
		}
	}
	wg.Wait()
	owners := 0
	for _, n := range []*fixture{a, b} {
		owners += n.live()
	}
	rec, err := f.db.Records().Get(t.Context(), appID, []api.SessionID{h.id})
	if err != nil || owners < 1 || rec[h.id].Lease.OwnerEpoch != int64(owners) {
		t.Errorf("%d owners, epoch %d, %v", owners, rec[h.id].Lease.OwnerEpoch, err)
	}
	if f.g.Superseded(appID, h.id, 0) || f.g.Superseded(otherID, h.id, 9) || !f.g.Superseded(appID, h.id, 1) || f.g.Superseded(appID, h.id, 1) {
		t.Error("want true once")
	}
	if got := old.rest(); len(got) != 0 {
		t.Errorf("the old owner's stream was told %v", got)
	}
	if f.live() != 0 {
		t.Error("the old owner still lists it")
	}
	f.records.Flush(t.Context())
	if rec, _ := f.db.Records().Get(t.Context(), appID, []api.SessionID{h.id}); rec[h.id].EndedAt != 0 {
		t.Error("the old owner ended it")
	}
}

// TestAdoptWithoutStore: with the database away the client is told to come back, and what is held here goes on (G9).
func TestAdoptWithoutStore(t *testing.T) {
	f := newFixture(t, Limits{})
	away := &awayRecords{Records: f.db.Records()}
	h, gone := f.lease(token(time.Hour), ""), f.lease(token(time.Hour, "jti", "2"), "")
	f.letGo()
	n := f.next()
	n.g.cfg.Records = store.NewRecorder(store.RecorderConfig{Records: away, MaxWait: time.Millisecond, Incarnation: n.node})
	held := n.lease(token(time.Hour), "")
	if r := gone.at(n).bye(); r.status != 204 {
		t.Error(r)
	}
	away.set(true)
	again := h.at(n)
	for _, r := range []reply{again.beat(), again.bye(), n.call(again.c, "GET", again.path("/events"), again.token, "")} {
		if !r.is(503, api.CodeUnavailable) || r.header.Get("Retry-After") == "" {
			t.Errorf("%v", r)
		}
	}
	if r := held.beat(); r.status != 200 {
		t.Errorf("a lease that is held: %v", r)
	}
	if r := gone.at(n).beat(); !r.is(410, api.CodeSessionEnded) {
		t.Errorf("one that ended a moment ago: %v", r)
	}
	held.token = token(2*time.Hour, "jti", "3")
	if r := held.beat(); r.status != 200 { // the record waits in memory
		t.Errorf("a renewal: %v", r)
	}
	n.lease(token(time.Hour), "")
	away.set(false)
	if r := again.beat(); r.status != 200 {
		t.Errorf("the database is back: %v", r)
	}
}

// TestAdoptAfterTokenGrace: time goes on while nobody holds the lease: a token whose grace has passed has ended it.
func TestAdoptAfterTokenGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		h := f.lease(token(time.Minute), `"leaseSeconds":3600`)
		expires := f.record(h.id).TokenExpiresAt
		f.letGo()
		time.Sleep(2 * time.Minute)
		n := f.next()
		again := h.at(n)
		again.token = token(time.Hour)
		if r := again.beat(); !r.is(410, api.CodeSessionEnded) || r.body["reason"] != "token_expired" || r.body["reauthenticate"] != true {
			t.Error(r)
		}
		if rec := n.record(h.id); rec.EndedAt != expires.Add(api.ExpiryGrace) {
			t.Errorf("%+v", rec)
		}
	})
}

// TestManyAdoptions: a node takes up what another left, all at once.
func TestManyAdoptions(t *testing.T) {
	f := newFixture(t, Limits{})
	var held []*holder
	for i := range 100 {
		held = append(held, f.lease(token(time.Hour, "jti", fmt.Sprint(i)), ""))
	}
	f.letGo()
	n := f.next()
	var wg sync.WaitGroup
	for _, h := range held {
		again := h.at(n)
		wg.Go(func() {
			if r := again.beat(); r.status != 200 {
				t.Errorf("%v", r)
			}
		})
	}
	wg.Wait()
	if n.live() != 100 {
		t.Errorf("%d sessions", n.live())
	}
}

// TestNewIncarnation: a node that was taken for dead and came back opens and adopts under the incarnation that it has now.
func TestNewIncarnation(t *testing.T) {
	before := newFixture(t, Limits{})
	old := before.lease(token(time.Hour), "")
	before.letGo()
	f := before.next()
	incarnation, err := f.db.Nodes().Claim(t.Context(), f.name)
	if err != nil {
		t.Fatal(err)
	}
	f.records.Renew(incarnation)
	id := newSession()
	f.want(f.report(openItem(id)), "ok")
	opened := f.lease(token(time.Hour, "jti", "b"), "")
	if r := old.at(f).beat(); r.status != 200 {
		t.Fatal(r)
	}
	for name, id := range map[string]api.SessionID{"opened": opened.id, "reported": id, "adopted": old.id} {
		if rec := f.record(id); rec.Incarnation != incarnation {
			t.Errorf("what was %s has incarnation %d, want %d", name, rec.Incarnation, incarnation)
		}
	}
	if did, err := f.g.EndUnheld(t.Context(), appID, opened.id, "key1", ""); did || err != nil || f.live() != 3 {
		t.Errorf("its own lease is taken for one that nobody holds: %v %v, %d sessions", did, err, f.live())
	}
}
