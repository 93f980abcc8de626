package gateway

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

func newSession() api.SessionID { return api.NewSessionID() }

func openItem(id api.SessionID) api.LeaseItem {
	return api.LeaseItem{Op: api.LeaseOpen, ID: id, IPAddress: "203.0.113.9", Login: "john@example.com", Authorized: true}
}

func beatItem(id api.SessionID) api.LeaseItem { return api.LeaseItem{Op: api.LeaseHeartbeat, ID: id} }

func endItem(id api.SessionID) api.LeaseItem { return api.LeaseItem{Op: api.LeaseEnd, ID: id} }

// report reports and returns what became of each item: "ok", a code, or the reason of an end.
func (f *fixture) report(items ...api.LeaseItem) []string {
	f.Helper()
	return f.reportAs("key1/", items...)
}

func (f *fixture) reportAs(reporter string, items ...api.LeaseItem) (out []string) {
	f.Helper()
	app, _ := f.tenants.Application(appID)
	for _, err := range f.g.Report(f.Context(), app, reporter, items) {
		switch reason, ended := f.g.EndOf(err); {
		case err == nil:
			out = append(out, "ok")
		case ended:
			out = append(out, string(reason))
		default:
			out = append(out, string(api.CodeOf(err)))
		}
	}
	return out
}

func (f *fixture) want(got []string, want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		f.Error(diff)
	}
}

func TestReport(t *testing.T) {
	f := newFixture(t, Limits{})
	id := newSession()
	item := openItem(id)
	item.IPAddress, item.License, item.ClientID, item.Hostname, item.UserAgent = "::ffff:203.0.113.9", "ABC-1", "client-001", "mbp-14", "x/1"
	item.ClientInfo, item.LeaseSeconds = []byte(`{"a": 1}`), 600
	item.LastActiveAt = api.MillisOf(time.Now().Add(-time.Hour)).Timestamp()
	f.want(f.report(item, item, beatItem(id), endItem(newSession()), beatItem(newSession())), "ok", "ok", "ok", "session_not_found", "session_not_found")
	rec := f.record(id)
	want := store.Record{ID: id, ServerID: api.NewServerID("srv-01", id), Organization: orgID, Application: appID, Incarnation: 1,
		CreatedAt: rec.CreatedAt, IP: "203.0.113.9", ClientID: "client-001", Login: "john@example.com", License: "ABC-1", Authorized: true,
		Hostname: "mbp-14", UserAgent: "x/1", ClientInfo: []byte(`{"a": 1}`), LastActiveAt: api.Millis(*item.LastActiveAt),
		Lease: &store.Lease{Seconds: 600, Reporter: "key1/"}}
	if diff := cmp.Diff(want, rec); diff != "" {
		t.Error(diff)
	}
	row, _ := f.registry.Get(appID, id)
	if row.LastActiveAt != want.LastActiveAt || !row.Authorized {
		t.Errorf("%+v", row)
	}
	f.want(f.report(endItem(id), endItem(id), beatItem(id), openItem(id)), "ok", "ok", "client_closed", "client_closed")
	f.wantEnd(id, api.EndClientClosed)
	if ends := f.g.Ended(t.Context(), appID, "key1/", 0); len(ends) != 0 {
		t.Errorf("told of its own end: %v", ends)
	}
	bare := newSession()
	f.want(f.report(api.LeaseItem{Op: api.LeaseOpen, ID: bare, IPAddress: "2001:db8::1"}), "ok")
	if rec := f.record(bare); rec.Authorized || rec.ClientID != bare.String() || rec.Lease.Seconds != 90 {
		t.Errorf("%+v", rec)
	}
}

// TestReportKeepsToItself: the ids of sessions of another kind, or another application, are nobody's to report.
func TestReportKeepsToItself(t *testing.T) {
	f := newFixture(t, Limits{})
	own, socket := f.lease(token(time.Hour), ""), f.openToken(time.Hour)
	f.want(f.report(openItem(own.id), beatItem(own.id), endItem(own.id), openItem(socket.id), beatItem(socket.id), endItem(socket.id)),
		"conflict", "conflict", "conflict", "conflict", "conflict", "conflict")
	if f.live() != 2 || f.g.find(appID, f.record(socket.id).ServerID) == nil {
		t.Error("a session has gone")
	}
	shared := newSession()
	other, _ := f.tenants.Application(otherID)
	f.want(f.report(openItem(shared)), "ok")
	if errs := f.g.Report(t.Context(), other, "key2/", []api.LeaseItem{beatItem(shared), openItem(shared)}); api.CodeOf(errs[0]) != api.CodeSessionNotFound || errs[1] != nil {
		t.Errorf("the same id in another application: %v", errs)
	}
	// Each application's operators end their own.
	if !f.g.Disconnect(t.Context(), appID, api.NewServerID("srv-01", shared), "key1", "") {
		t.Error("not ended")
	}
	if _, there := f.registry.Get(otherID, shared); !there {
		t.Error("the other application's session has gone")
	}
	if r := f.call(own.c, "POST", api.SessionsPath+"/"+shared.String()+"/heartbeat", own.token, ""); !r.is(404, api.CodeSessionNotFound) {
		t.Errorf("a client's heartbeat for a reported session: %v", r)
	}
}

// TestReportedSessionsEnd: an operator's end reaches the reporter, in a call that waits too, and whoever authenticated so is refused
// (G3, G4).
func TestReportedSessionsEnd(t *testing.T) {
	f := newFixture(t, Limits{})
	a, b, c := newSession(), newSession(), newSession()
	item := openItem(a)
	item.CredentialID = "sha256:1"
	f.want(f.reportAs("key1/one", item, openItem(b)), "ok", "ok")
	f.want(f.reportAs("key1/two", openItem(c)), "ok")

	waiting := make(chan []api.LeaseEnded)
	go func() { waiting <- f.g.Ended(t.Context(), appID, "key1/one", time.Minute) }()
	f.g.Disconnect(t.Context(), appID, api.NewServerID("srv-01", a), "key9", "stolen")
	if diff := cmp.Diff([]api.LeaseEnded{{ID: a, Reason: "disconnected", Reauthenticate: true}}, <-waiting); diff != "" {
		t.Error(diff)
	}
	if r := f.wantEnd(a, api.EndDisconnected); r.EndedBy != "key9" || r.EndText != "stolen" {
		t.Errorf("%+v", r)
	}
	item.ID = newSession()
	f.want(f.reportAs("key1/one", beatItem(a), item, openItem(newSession())), "disconnected", "token_revoked", "ok")

	stale, _ := f.tenants.Application(appID) // as a call that came before the revocation has it
	if _, n, err := f.tenants.Revoke(t.Context(), appID, "key9", ""); n != 3 || err != nil {
		t.Errorf("revoked %d, %v", n, err)
	}
	if errs := f.g.Report(t.Context(), stale, "key1/one", []api.LeaseItem{openItem(newSession())}); api.CodeOf(errs[0]) != api.CodeTokenRevoked {
		t.Errorf("a call from before the revocation: %v", errs)
	}
	f.want(f.reportAs("key1/two", beatItem(c), openItem(c), openItem(newSession())), "revoked", "revoked", "ok")
	if ends := f.g.Ended(t.Context(), appID, "key1/two", 0); len(ends) != 1 || ends[0].ID != c || ends[0].Reason != api.EndRevoked {
		t.Errorf("%v", ends)
	}
	if ends := f.g.Ended(t.Context(), appID, "key1/two", 0); len(ends) != 0 {
		t.Errorf("told twice: %v", ends)
	}
	if ends := f.g.Ended(t.Context(), otherID, "key1/one", 0); len(ends) != 0 {
		t.Errorf("another application's: %v", ends)
	}
}

// TestReportedCredentials: every credential that a session came with, in a heartbeat too, is refused once it is ended.
func TestReportedCredentials(t *testing.T) {
	f := newFixture(t, Limits{})
	item := openItem(newSession())
	item.CredentialID = "first"
	beat := beatItem(item.ID)
	f.want(f.report(item, beat), "ok", "ok")
	for _, credential := range []string{"second", "first", "third"} {
		beat.CredentialID = credential
		f.want(f.report(beat), "ok")
	}
	f.g.Disconnect(t.Context(), appID, api.NewServerID("srv-01", item.ID), "key9", "")
	f.wantEnd(item.ID, api.EndDisconnected)
	for credential, want := range map[string]string{"first": "token_revoked", "second": "token_revoked", "third": "token_revoked", "fourth": "ok"} {
		item.ID, item.CredentialID = newSession(), credential
		f.want(f.report(item), want)
	}
}

func TestReportQuota(t *testing.T) {
	f := newFixture(t, Limits{})
	if _, err := f.tenants.PatchOrganization(t.Context(), orgID, tenant.OrganizationInput{
		Plan: &tenant.PlanInput{Name: "P", MaxAuthorizedSessions: new(2)}}); err != nil {
		t.Fatal(err)
	}
	anyone := openItem(newSession())
	anyone.Authorized = false
	f.want(f.report(openItem(newSession()), openItem(newSession()), openItem(newSession()), anyone), "ok", "ok", "sessions_quota_exceeded", "ok")
	if f.records.Status().Bytes != 0 || len(f.g.leases) != 3 {
		t.Error("the refused record is kept")
	}
	paused := api.ApplicationPaused
	if _, err := f.tenants.PatchApplication(t.Context(), appID, tenant.ApplicationInput{State: &paused}, "key1"); err != nil {
		t.Fatal(err)
	}
	f.want(f.report(openItem(newSession())), "application_paused")
}

// TestReportLeaseLife: heartbeats keep it and are no activity; a new length holds from then on; what runs out is told.
func TestReportLeaseLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		id := newSession()
		f.want(f.report(openItem(id)), "ok")
		for range 4 {
			time.Sleep(80 * time.Second)
			f.want(f.report(beatItem(id)), "ok")
		}
		row, _ := f.registry.Get(appID, id)
		if got := row.Derived(api.MillisOf(time.Now()), 5*time.Minute); got != api.DerivedIdle {
			t.Errorf("heartbeats count as activity: %s", got)
		}
		item := beatItem(id)
		item.LastActiveAt = api.MillisOf(time.Now().Add(time.Hour)).Timestamp() // the reporter's clock is ahead
		item.LeaseSeconds = 15
		f.want(f.report(item), "ok")
		if row, _ = f.registry.Get(appID, id); row.LastActiveAt != api.MillisOf(time.Now()) {
			t.Errorf("active at %v", row.LastActiveAt.Time())
		}
		time.Sleep(14 * time.Second)
		if f.live() != 1 {
			t.Error("it ran out early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if rec := f.record(id); rec.EndReason != api.EndLeaseExpired || rec.Lease.Seconds != 15 {
			t.Errorf("%+v", rec)
		}
		if ends := f.g.Ended(t.Context(), appID, "key1/", 0); len(ends) != 1 || ends[0].Reauthenticate {
			t.Errorf("%v", ends)
		}
	})
}

// TestReportShortens: a shorter lease holds from the heartbeat that says so.
func TestReportShortens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		item := openItem(newSession())
		item.LeaseSeconds = 3600
		f.want(f.report(item), "ok")
		item.Op, item.LeaseSeconds = api.LeaseHeartbeat, 15
		f.want(f.report(item), "ok")
		time.Sleep(16 * time.Second)
		synctest.Wait()
		if f.live() != 0 {
			t.Error("it did not run out")
		}
	})
}

// TestInsertKeepsOthers: a session whose id is taken leaves the one that has it as it is.
func TestInsertKeepsOthers(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.openKey()
	l := f.g.newLease("key1/", 90)
	l.session.record = f.record(c.id)
	if err := l.session.insert(1); api.CodeOf(err) != api.CodeConflict {
		t.Error(err)
	}
	if f.g.find(appID, f.record(c.id).ServerID) == nil {
		t.Error("the session cannot be found any more")
	}
}

// TestReportAdopts: the next life of the node takes up what is reported to it, whoever reports it now.
func TestReportAdopts(t *testing.T) {
	f := newFixture(t, Limits{})
	var items, beats []api.LeaseItem
	for range 500 {
		id := newSession()
		items, beats = append(items, openItem(id)), append(beats, beatItem(id))
	}
	items[0].CredentialID, items[1].CredentialID = "a", "b"
	for _, got := range f.report(items...) {
		f.want([]string{got}, "ok")
	}
	ended := items[2].ID
	f.want(f.report(endItem(ended)), "ok")
	f.letGo()
	n := f.next()
	if err := f.db.Records().Write(t.Context(), nil, []store.Denial{{Application: appID, TokenID: "credential:a", ExpiresAt: forever}}); err != nil {
		t.Fatal(err)
	}
	n = n.next() // which knows of that
	got := n.reportAs("key2/new", beats...)
	f.want(got[:4], "ok", "ok", "client_closed", "ok") // the first stays, as it would have at its node (page 3)
	for _, g := range got[4:] {
		f.want([]string{g}, "ok")
	}
	if n.live() != 499 || len(n.g.leases) != 499 {
		t.Errorf("%d sessions, %d leases", n.live(), len(n.g.leases))
	}
	n.g.Disconnect(t.Context(), appID, api.NewServerID("srv-01", items[1].ID), "key9", "")
	if ends := n.g.Ended(t.Context(), appID, "key2/new", 0); len(ends) != 1 || ends[0].ID != items[1].ID {
		t.Errorf("the new reporter is told %v", ends)
	}
	again := openItem(newSession())
	again.CredentialID = "b"
	f.want(n.report(again), "token_revoked")
}

// TestReportConcurrently: the same sessions reported from many sides at once are opened once, and every call is answered.
func TestReportConcurrently(t *testing.T) {
	f := newFixture(t, Limits{})
	var items []api.LeaseItem
	for range 100 {
		items = append(items, openItem(newSession()))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			mine := append([]api.LeaseItem(nil), items[i:]...)
			mine = append(mine, items[:i]...)
			for j, got := range f.reportAs(fmt.Sprintf("key1/%d", i), mine...) {
				if got != "ok" {
					t.Errorf("reporter %d, item %d: %s", i, j, got)
				}
			}
		})
	}
	wg.Wait()
	if f.live() != 100 || f.metric(`rollcall_sessions_opened_total{authorized="true"}`) != 100 {
		t.Errorf("%d sessions", f.live())
	}
}

// TestReportWithoutStore: with the database away known sessions are kept and fresh ones opened; of the others nothing is known (G9).
func TestReportWithoutStore(t *testing.T) {
	f := newFixture(t, Limits{})
	known, unheld := newSession(), newSession()
	f.want(f.report(openItem(unheld)), "ok")
	f.letGo()
	n := f.next()
	away := &awayRecords{Records: f.db.Records()}
	n.g.cfg.Records = store.NewRecorder(store.RecorderConfig{Records: away, MaxWait: time.Millisecond, Incarnation: n.node}) // nobody runs it
	f.want(n.report(openItem(known)), "ok")
	socket := n.openKey()
	away.set(true)
	f.want(n.report(beatItem(known), beatItem(unheld), openItem(newSession()), openItem(socket.id)), "ok", "unavailable", "ok", "conflict")
	if n.g.find(appID, api.NewServerID("srv-01", socket.id)) == nil {
		t.Error("the connection's session cannot be found any more")
	}
	away.set(false)
	f.want(n.report(beatItem(unheld)), "ok")
}

// TestReporterIsBounded: ends that nobody asks for do not pile up, and neither do reporters.
func TestReporterIsBounded(t *testing.T) {
	var rs reporters
	key := reporterKey{appID, "a"}
	rs.ended(key, newSession(), api.EndRevoked) // never heard of
	rs.meet(key)
	for range 3 * maxEnds {
		rs.ended(key, newSession(), api.EndRevoked)
	}
	if n := len(rs.all[key].ends); n > maxEnds {
		t.Errorf("%d ends wait", n)
	}
	if ends, _ := rs.take(key, true); len(ends) != api.MaxBatchEnded {
		t.Errorf("told of %d at once", len(ends))
	}
	for i := range maxReporters + 100 {
		rs.meet(reporterKey{appID, fmt.Sprint(i)})
	}
	if len(rs.all) > maxReporters {
		t.Errorf("%d reporters", len(rs.all))
	}
}

// TestEndUnheld: an operator ends a lease that nobody holds; its client, and its credential, hear of it.
func TestEndUnheld(t *testing.T) {
	f := newFixture(t, Limits{})
	h := f.lease(token(time.Hour), "")
	f.letGo()
	n := f.next()
	if _, err := n.g.EndUnheld(t.Context(), otherID, h.id, "key9", ""); api.CodeOf(err) != api.CodeSessionNotFound {
		t.Errorf("of another application: %v", err)
	}
	for _, want := range []bool{true, false} {
		if did, err := n.g.EndUnheld(t.Context(), appID, h.id, "key9", "stolen"); did != want || err != nil {
			t.Errorf("ended %v, %v, want %v", did, err, want)
		}
	}
	if r := n.wantEnd(h.id, api.EndDisconnected); r.EndedBy != "key9" || r.EndText != "stolen" {
		t.Errorf("%+v", r)
	}
	h.at(n).wantGone(api.EndDisconnected, true)
	if r := n.call(h.at(n).c, "POST", api.SessionsPath, h.token, `{"application":"123456789"}`); !r.is(401, api.CodeTokenRevoked) {
		t.Error(r)
	}
}
