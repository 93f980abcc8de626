package gateway

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

func TestDisconnect(t *testing.T) {
	f := newFixture(t, Limits{})
	first := token(time.Hour)
	c := f.open(`"application":"123456789","token":"` + first + `"`)
	second := token(2 * time.Hour)
	c.text(`{"type":"authorize","token":"` + second + `"}`)
	c.next()
	bystander := f.open(`"application":"123456789","token":"` + first + `"`)
	id := f.record(c.id).ServerID
	if f.g.Disconnect(t.Context(), otherID, id, "key1", "") || f.g.Disconnect(t.Context(), appID, id+"x", "key1", "") {
		t.Error("ended a session of another application, or none")
	}
	if !f.g.Disconnect(t.Context(), appID, id, "key1", "stolen \"laptop\" <b>") || f.g.Disconnect(t.Context(), appID, id, "key2", "again") {
		t.Error("want true once")
	}
	if _, there := f.registry.Get(appID, c.id); there {
		t.Error("the row is still there")
	}
	want := []string{`{"type":"disconnect","code":4100,"reason":"stolen \"laptop\" <b>","reauthenticate":true,"reconnect":true}`,
		`close 4100 stolen "laptop" <b>`}
	if diff := cmp.Diff(want, c.rest()); diff != "" {
		t.Error(diff)
	}
	if r := f.wantEnd(c.id, api.EndDisconnected); r.EndedBy != "key1" || r.EndText != `stolen "laptop" <b>` {
		t.Errorf("record %+v", r)
	}
	for _, tok := range []string{first, second} { // neither opens a session again
		again := f.connect()
		again.text(`{"type":"hello","application":"123456789","token":"` + tok + `"}`)
		if got := again.rest(); len(got) != 3 || !strings.Contains(got[0], `"code":"token_revoked"`) {
			t.Errorf("a token of an ended session: %v", got)
		}
	}
	bystander.text(`{"type":"authorize","token":"` + first + `"}`) // stays, but cannot renew with it
	if got := bystander.object(); got["code"] != "token_revoked" {
		t.Error(got)
	}
}

func TestDisconnectReasonIsCutInTheCloseFrame(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.openKey()
	reason := strings.Repeat("ü", 256)
	f.g.Disconnect(t.Context(), appID, f.record(c.id).ServerID, tenant.Admin, reason)
	if got := c.rest(); len(got) != 2 || !strings.Contains(got[0], reason) || got[1] != "close 4100 "+strings.Repeat("ü", 61) {
		t.Errorf("%v", got)
	}
}

// TestRevoke: everyone is told, the count is exact and the same when asked again, old tokens stay out.
func TestRevoke(t *testing.T) {
	f := newFixture(t, Limits{})
	tok := token(time.Hour)
	var clients []*client
	for i := range 30 {
		if i%3 == 0 {
			clients = append(clients, f.openKey())
		} else {
			clients = append(clients, f.open(`"application":"123456789","token":"`+tok+`"`))
		}
	}
	other := f.open(`"publishableKey":"rca_0123456789abcdeg"`)
	app, n, err := f.tenants.Revoke(t.Context(), appID, "key1", "incident 7")
	if err != nil || n != 30 {
		t.Fatalf("count %d, %v", n, err)
	}
	if n := f.g.Apply(app); n != 30 {
		t.Errorf("asked again: %d", n)
	}
	if f.live() != 1 {
		t.Errorf("%d rows are left", f.live())
	}
	want := []string{`{"type":"disconnect","code":4103,"reason":"incident 7","reauthenticate":true,"reconnect":true}`, "close 4103 incident 7"}
	for _, c := range clients {
		if diff := cmp.Diff(want, c.rest()); diff != "" {
			t.Fatal(diff)
		}
		if r := f.wantEnd(c.id, api.EndRevoked); r.EndedBy != "key1" || r.EndText != "incident 7" {
			t.Errorf("record %+v", r)
		}
	}
	c := f.connect()
	c.text(`{"type":"hello","application":"123456789","token":"` + tok + `"}`)
	if got := c.rest(); len(got) != 3 || !strings.Contains(got[0], "token_revoked") {
		t.Errorf("old token: %v", got)
	}
	back := f.openKey() // unauthorized ones may come back
	if _, n, err = f.tenants.Revoke(t.Context(), appID, "key1", ""); err != nil || n != 1 {
		t.Errorf("second revocation: %d, %v", n, err)
	}
	if got := back.rest(); got[1] != "close 4103 all sessions revoked" {
		t.Error(got)
	}
	other.text(`{"type":"bye"}`)
	if got := other.rest(); got[0] != "close 1000" {
		t.Errorf("another application's session: %v", got)
	}
}

func TestPauseAndArchive(t *testing.T) {
	f := newFixture(t, Limits{})
	paused, active := api.ApplicationPaused, api.ApplicationActive
	c := f.openKey()
	if _, err := f.tenants.PatchApplication(t.Context(), appID, tenant.ApplicationInput{State: &paused}, "key1"); err != nil {
		t.Fatal(err)
	}
	want := []string{`{"type":"disconnect","code":4101,"reason":"application paused","reauthenticate":false,"reconnect":false}`,
		"close 4101 application paused"}
	if diff := cmp.Diff(want, c.rest()); diff != "" {
		t.Error(diff)
	}
	if r := f.wantEnd(c.id, api.EndApplicationPaused); r.EndedBy != "key1" {
		t.Errorf("record %+v", r)
	}
	if _, err := f.tenants.PatchApplication(t.Context(), appID, tenant.ApplicationInput{State: &active}, "key1"); err != nil {
		t.Fatal(err)
	}
	c = f.openKey()
	if _, err := f.tenants.ArchiveApplication(t.Context(), appID, "key1"); err != nil {
		t.Fatal(err)
	}
	want = []string{`{"type":"disconnect","code":4102,"reason":"application archived","reauthenticate":false,"reconnect":false}`,
		"close 4102 application archived"}
	if diff := cmp.Diff(want, c.rest()); diff != "" {
		t.Error(diff)
	}
	f.wantEnd(c.id, api.EndApplicationArchived)
}

// TestOneEnd lets causes race for each session: exactly one wins, and the record, the client and the counts agree on which.
func TestOneEnd(t *testing.T) {
	f := newFixture(t, Limits{})
	const n = 40
	var clients []*client
	for range n {
		clients = append(clients, f.openToken(time.Hour))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	disconnected := 0
	for _, c := range clients {
		id := f.record(c.id).ServerID
		wg.Go(func() {
			if f.g.Disconnect(t.Context(), appID, id, "key1", "") {
				mu.Lock()
				disconnected++
				mu.Unlock()
			}
		})
		if rand.IntN(2) == 0 {
			wg.Go(func() { c.text(`{"type":"bye"}`) })
		}
	}
	var revoked int
	wg.Go(func() { _, revoked, _ = f.tenants.Revoke(t.Context(), appID, "key2", "") })
	wg.Wait()
	counts := map[api.EndReason]int{}
	for _, c := range clients {
		frames := c.rest()
		r := f.record(c.id)
		for range 100 {
			if r.EndedAt != 0 {
				break
			}
			time.Sleep(10 * time.Millisecond)
			r = f.record(c.id)
		}
		counts[r.EndReason]++
		want := map[api.EndReason]string{api.EndClientClosed: "close 1000", api.EndDisconnected: "close 4100 disconnected by an operator",
			api.EndRevoked: "close 4103 all sessions revoked"}[r.EndReason]
		if len(frames) == 0 || frames[len(frames)-1] != want {
			t.Errorf("recorded as %s, but the client got %v", r.EndReason, frames)
		}
		if len(frames) == 2 != strings.HasPrefix(want, "close 4") {
			t.Errorf("%s: frames %v", r.EndReason, frames)
		}
	}
	if counts[api.EndDisconnected] != disconnected || counts[api.EndRevoked] != revoked || f.live() != 0 {
		t.Errorf("recorded %v, answered %d disconnected and %d revoked; %d rows left", counts, disconnected, revoked, f.live())
	}
	for reason, n := range counts {
		if got := f.metric(fmt.Sprintf("rollcall_sessions_ended_total{reason=%q}", reason)); int(got) != n {
			t.Errorf("metric of %s: %v, want %d", reason, got, n)
		}
	}
}

// TestSilentReadersDelayNobody: clients that never read, on connections that cannot be written without waiting.
func TestSilentReadersDelayNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		var silent, reading []*client
		for range 300 {
			silent = append(silent, f.openKey())
		}
		got := make(chan time.Time, 100)
		var wg sync.WaitGroup
		for range 100 {
			c := f.openKey()
			reading = append(reading, c)
			wg.Go(func() {
				c.rest()
				got <- time.Now()
			})
		}
		app, _ := f.tenants.Application(appID)
		app.Epoch++
		start := time.Now()
		if n := f.g.Apply(app); n != 400 {
			t.Fatal(n)
		}
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("the answer took %v", took)
		}
		wg.Wait()
		for range reading {
			if took := (<-got).Sub(start); took > 0 {
				t.Errorf("a client that reads was told after %v", took)
			}
		}
		if f.live() != 0 {
			t.Errorf("%d rows are left", f.live())
		}
		for _, c := range silent {
			_ = c.Close()
		}
	})
}

func TestDrain(t *testing.T) {
	f := newFixture(t, Limits{})
	waiting := f.connect() // before its hello
	var clients []*client
	for range 20 {
		clients = append(clients, f.openToken(time.Hour))
	}
	done := make(chan struct{})
	go func() {
		f.g.Drain(context.WithoutCancel(t.Context()), 10*time.Second)
		close(done)
	}()
	retries := map[float64]bool{}
	for _, c := range append(clients, waiting) {
		d := c.object()
		retry, _ := d["retryAfterMs"].(float64)
		retries[retry] = true
		delete(d, "retryAfterMs")
		want := map[string]any{"type": "disconnect", "code": 1001.0, "reason": "node is draining", "reauthenticate": false, "reconnect": true}
		if diff := cmp.Diff(want, d); diff != "" || retry < 1 || retry > 10_000 {
			t.Error(retry, diff)
		}
		if got := c.next(); got != "close 1001 node is draining" {
			t.Error(got)
		}
		_ = c.Close()
	}
	if len(retries) < 15 {
		t.Errorf("retryAfterMs is not spread: %v", retries)
	}
	<-done
	for _, c := range clients {
		f.wantEnd(c.id, api.EndNodeDraining)
	}
	c := &client{TB: t, Conn: f.dial()}
	defer c.Close()
	c.br = newReader(c.Conn)
	wantHTTP(t, c.request("GET"), 503, api.CodeUnavailable, "Retry-After")
	f.g.Drain(t.Context(), 0) // again is nothing
}

// TestDrainEnds: clients that neither read nor close are cut off when the time is up.
func TestDrainEnds(t *testing.T) {
	f := newFixture(t, Limits{})
	f.openKey()
	f.connect()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	f.g.Drain(ctx, 0)
	if took := time.Since(start); took > linger {
		t.Errorf("took %v", took)
	}
}

// TestRecordQueueFull: what cannot be recorded is told when to come back.
func TestRecordQueueFull(t *testing.T) {
	f := newFixture(t, Limits{})
	f.g.cfg.Records = store.NewRecorder(store.RecorderConfig{Records: failing{}, MaxBytes: 1})
	c := f.connect()
	c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
	d := c.object()
	if retry, _ := d["retryAfterMs"].(float64); d["code"] != 1013.0 || d["reconnect"] != true || retry < 1000 || retry >= 5000 {
		t.Error(d)
	}
	if got := c.next(); !strings.HasPrefix(got, "close 1013") || f.live() != 0 {
		t.Error(got, f.live())
	}
}

// failing is a table that is away.
type failing struct{ store.Records }

func (failing) Write(context.Context, []store.Record, []store.Denial, ...store.Audit) error {
	return errors.New("away")
}

// TestStoreAway: a database that does not answer delays a welcome by half a second, then none (G9).
func TestStoreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		away := store.NewRecorder(store.RecorderConfig{Records: failing{}}) // nobody runs it: nothing is written
		f.g.cfg.Records = away
		for i, want := range []time.Duration{500 * time.Millisecond, 0, 0} {
			start := time.Now()
			f.openToken(time.Hour)
			if took := time.Since(start); took != want {
				t.Errorf("welcome %d after %v, want %v", i, took, want)
			}
		}
		if s := away.Status(); s.Queued != 3 || !s.Away {
			t.Errorf("%+v", s)
		}
	})
}

// TestStrictRevocation: a node that hears of no revocation opens sessions all the same (G9), but not for an application that would
// rather have none (G4).
func TestStrictRevocation(t *testing.T) {
	f := newFixture(t, Limits{})
	var cut atomic.Bool
	f.g.cfg.CutOff = cut.Load
	hello := `{"type":"hello","publishableKey":"` + pubKey + `"}`
	open := func() string {
		c := f.connect()
		c.text(hello)
		return c.next()
	}
	cut.Store(true)
	if got := open(); !strings.Contains(got, "welcome") {
		t.Errorf("without strictRevocation: %s", got)
	}
	in := tenant.ApplicationInput{StrictRevocation: new(true)}
	if _, err := f.tenants.PatchApplication(t.Context(), appID, in, tenant.Admin); err != nil {
		t.Fatal(err)
	}
	if got := open(); !strings.Contains(got, `"code":1013`) || !strings.Contains(got, "retryAfterMs") {
		t.Errorf("cut off: %s", got)
	}
	if n := f.live(); n != 1 {
		t.Errorf("%d rows", n)
	}
	cut.Store(false)
	if got := open(); !strings.Contains(got, "welcome") {
		t.Errorf("back again: %s", got)
	}
}

// TestEndBeforeWelcome: a session that is ended while its record is being written is not welcomed, and does not come back.
func TestEndBeforeWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		f.g.cfg.Records = store.NewRecorder(store.RecorderConfig{Records: failing{}})
		c := f.connect()
		c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		row := f.registry.Sessions(appID, nil, 1, 0, 0)[0]
		var frames []string
		var wg sync.WaitGroup
		wg.Go(func() { frames = c.rest() })
		if !f.g.Disconnect(t.Context(), appID, row.ServerID, "key1", "") {
			t.Error("not ended")
		}
		wg.Wait()
		if len(frames) != 2 || frames[1] != "close 4100 disconnected by an operator" {
			t.Errorf("frames %v", frames)
		}
		time.Sleep(time.Minute)
		ended, err := f.g.cfg.Records.Get(t.Context(), appID, []api.SessionID{row.Session})
		if err != nil || ended[row.Session].EndReason != api.EndDisconnected || f.live() != 0 {
			t.Errorf("%v, %v", ended, err)
		}
	})
}

// TestHellosWait: hellos beyond those in flight wait their turn, and are told to come back when it does not come.
func TestHellosWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{HellosInFlight: 1})
		f.g.hellos <- struct{}{}
		c := f.connect()
		c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
		time.Sleep(14 * time.Second)
		<-f.g.hellos
		if got := c.object()["type"]; got != "welcome" {
			t.Error(got)
		}
		f.g.hellos <- struct{}{}
		c = f.connect()
		time.Sleep(14 * time.Second) // nearly the time for a hello: waiting does not count against it
		c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
		start := time.Now()
		if d := c.object(); d["code"] != 1013.0 || d["retryAfterMs"] == nil || time.Since(start) != 15*time.Second {
			t.Error(d, time.Since(start))
		}
		c.rest()
		<-f.g.hellos
	})
}

// TestEndWhileHelloWaits: a session that is ended before it is in the registry never gets there, and a drain does not wait for it.
func TestEndWhileHelloWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{HellosInFlight: 1})
		wait := func() *client {
			f.g.hellos <- struct{}{}
			c := f.connect()
			c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
			synctest.Wait()
			return c
		}
		c := wait()
		for _, name := range []string{"rollcall_gateway_hellos_in_flight{}", "rollcall_gateway_hellos_waiting{}"} {
			if got := f.metric(name); got != 1 {
				t.Errorf("%s: %v", name, got)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { f.g.connections()[0].end(drained(0)) })
		if got := c.rest(); len(got) != 2 || got[1] != "close 1001 node is draining" {
			t.Error(got)
		}
		wg.Wait()
		<-f.g.hellos
		synctest.Wait()
		if f.live() != 0 || len(f.g.live) != 0 || f.records.Status().Bytes != 0 {
			t.Errorf("left: %d rows, %+v", f.live(), f.records.Status())
		}
		c = wait()
		wg.Go(func() { c.rest() })
		start := time.Now()
		f.g.Drain(t.Context(), 0)
		if took := time.Since(start); took != 0 {
			t.Errorf("the drain waited %v", took)
		}
		wg.Wait()
		<-f.g.hellos
	})
}

func TestConnectionsPerAddressAreGivenBack(t *testing.T) {
	f := newFixture(t, Limits{ConnectionsPerAddress: 2})
	for range 5 {
		a, b := f.openKey(), f.openKey()
		for _, c := range []*client{a, b} {
			c.text(`{"type":"bye"}`)
			c.rest()
		}
		for range 200 {
			if len(f.g.connections()) == 0 {
				break
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestTokensAreBounded(t *testing.T) {
	f := newFixture(t, Limits{FrameBurst: 1000})
	c := f.openToken(time.Hour)
	var last string
	for i := range maxTokens + 1 {
		c.text(`{"type":"authorize","token":"` + token(time.Hour, "jti", fmt.Sprint(i)) + `"}`)
		last = c.next()
	}
	if !strings.Contains(last, `"code":"rate_limited"`) {
		t.Error(last)
	}
}

func TestMetrics(t *testing.T) {
	f := newFixture(t, Limits{})
	f.openToken(time.Hour)
	f.openKey()
	f.connect()
	bad := f.connect()
	bad.text(`{"type":"hello","token":"x"}`)
	bad.rest()
	for range 500 { // a hello gives its place back after it was answered
		if f.metric("rollcall_gateway_hellos_in_flight{}") == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for name, want := range map[string]float64{
		`rollcall_sessions{application_state="active",authorized="false"}`:   1,
		`rollcall_sessions{application_state="active",authorized="true"}`:    1,
		`rollcall_sessions{application_state="paused",authorized="true"}`:    0,
		`rollcall_sessions{application_state="archived",authorized="false"}`: 0,
		`rollcall_sessions_opened_total{authorized="true"}`:                  1,
		`rollcall_sessions_opened_total{authorized="false"}`:                 1,
		`rollcall_gateway_refusals_total{code="token_invalid"}`:              1,
		`rollcall_gateway_frames_total{type="hello"}`:                        3,
		`rollcall_gateway_hello_seconds{}`:                                   2,
		`rollcall_gateway_hellos_in_flight{}`:                                0,
		`rollcall_gateway_hellos_waiting{}`:                                  0,
	} {
		if got := f.metric(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
	if got := f.metric("rollcall_gateway_connections{}"); got < 3 || got > 4 { // the refused one may linger
		t.Errorf("%v connections", got)
	}
}

// TestAbandonedConnections: resets and silence in every phase leave nothing behind.
func TestAbandonedConnections(t *testing.T) {
	f := newFixture(t, Limits{})
	for i := range 60 {
		var c *client
		switch i % 3 {
		case 0:
			c = f.connect()
		case 1:
			c = f.connect()
			c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
		default:
			c = f.openKey()
		}
		_ = c.Conn.(*net.TCPConn).SetLinger(0) // RST
		_ = c.Close()
	}
	for range 500 {
		if f.live() == 0 && len(f.g.connections()) == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if f.live() != 0 || len(f.g.connections()) != 0 || len(f.g.live) != 0 {
		t.Errorf("left: %d rows, %d connections", f.live(), len(f.g.connections()))
	}
}

// TestOrderOfAnEnd: when the client hears of its end, its token is denied, its record has ended and its row is gone.
func TestOrderOfAnEnd(t *testing.T) {
	f := newFixture(t, Limits{})
	tok := token(time.Hour)
	c := f.open(`"application":"123456789","token":"` + tok + `"`)
	s := f.g.find(appID, f.record(c.id).ServerID)
	checked := &checking{socket: s.socket, check: func() {
		if _, err := f.tenants.Verify(t.Context(), tenant.Credential{Token: tok, Application: number}); api.CodeOf(err) != api.CodeTokenRevoked {
			t.Errorf("the token is not denied: %v", err)
		}
		if f.record(c.id).EndedAt == 0 {
			t.Error("the record has not ended")
		}
		if f.live() != 0 {
			t.Error("the row is there")
		}
	}}
	f.whenIdle(func() { s.socket = checked }) // a socket may wake a session once more after its hello
	f.g.Disconnect(t.Context(), appID, f.record(c.id).ServerID, "key1", "")
	if !checked.called {
		t.Error("not told")
	}
	c.rest()
}

type checking struct {
	socket
	check  func()
	called bool
}

func (c *checking) BeginClose(frames []byte, code api.CloseCode, reason string) bool {
	c.check()
	c.called = true
	return c.socket.BeginClose(frames, code, reason)
}

// TestTokensThatExpiredHere: a token is denied that has expired by this node's clock, which may be ahead of another's.
func TestTokensThatExpiredHere(t *testing.T) {
	now := api.MillisOf(time.Now())
	left := denials([]store.Denial{{TokenID: "a", ExpiresAt: now.Add(time.Second)}, {TokenID: "b", ExpiresAt: now.Add(-time.Minute)},
		{TokenID: "c", ExpiresAt: now.Add(-2 * time.Minute)}}, now)
	if len(left) != 2 || left[0].TokenID != "a" || left[1].TokenID != "b" {
		t.Errorf("%+v", left)
	}
}
