package mcp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// rollcall is batch leases of page 3 in memory, with the clock of a synctest bubble. Requests reach it as a http.RoundTripper.
type rollcall struct {
	mu     sync.Mutex
	away   bool
	hang   bool
	leases map[api.SessionID]*lease
	ended  []api.LeaseEnded
	wake   chan struct{}
	calls  int
}

type lease struct {
	item   api.LeaseItem
	until  time.Time
	reason api.EndReason
}

func newRollcall() *rollcall {
	return &rollcall{leases: map[api.SessionID]*lease{}, wake: make(chan struct{}, 1)}
}

func (r *rollcall) RoundTrip(req *http.Request) (*http.Response, error) {
	var batch api.LeaseBatch
	if err := json.NewDecoder(req.Body).Decode(&batch); err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.calls++
	away, hang := r.away, r.hang
	r.mu.Unlock()
	if hang {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if away {
		return nil, errors.New("connection refused")
	}
	reply := api.LeaseBatchReply{Results: []api.LeaseResult{}}
	r.mu.Lock()
	for _, item := range batch.Items {
		reply.Results = append(reply.Results, r.doLocked(item))
	}
	r.mu.Unlock()
	timer := time.NewTimer(time.Duration(batch.WaitSeconds) * time.Second)
	defer timer.Stop()
	for reply.Ended = r.take(); len(reply.Ended) == 0 && batch.WaitSeconds > 0; reply.Ended = r.take() {
		select {
		case <-r.wake:
			continue
		case <-timer.C:
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
		break
	}
	body, err := json.Marshal(reply)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(body)), Request: req}, nil
}

func (r *rollcall) doLocked(item api.LeaseItem) api.LeaseResult {
	l := r.leases[item.ID]
	if l != nil && l.reason == "" && !time.Now().Before(l.until) {
		l.reason = api.EndLeaseExpired
	}
	result := api.LeaseResult{ID: &item.ID, OK: true}
	switch {
	case l == nil && item.Op == api.LeaseOpen:
		l = &lease{item: item}
		r.leases[item.ID] = l
	case l == nil:
		return api.LeaseResult{ID: &item.ID, Error: &api.LeaseError{Code: api.CodeSessionNotFound}}
	case l.reason != "":
		return api.LeaseResult{ID: &item.ID, Error: &api.LeaseError{Code: api.CodeSessionEnded, Reason: l.reason, Reauthenticate: l.reason.Reauthenticate()}}
	case item.Op == api.LeaseEnd:
		l.reason = api.EndClientClosed
		return result
	}
	l.until = time.Now().Add(time.Duration(item.LeaseSeconds) * time.Second)
	if item.LastActiveAt != nil {
		l.item.LastActiveAt = item.LastActiveAt
	}
	return result
}

func (r *rollcall) take() []api.LeaseEnded {
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := r.ended
	r.ended = nil
	return ended
}

// live returns the sessions that are listed, as they are now, by the names of their clients.
func (r *rollcall) live() map[string]lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	live := map[string]lease{}
	for id, l := range r.leases {
		if l.reason == "" && time.Now().Before(l.until) {
			name := l.item.ClientID
			if name == "" {
				name = id.String()
			}
			live[name] = *l
		}
	}
	return live
}

// end ends a session and tells it.
func (r *rollcall) end(id api.SessionID, reason api.EndReason) {
	r.mu.Lock()
	r.leases[id].reason = reason
	r.ended = append(r.ended, api.LeaseEnded{ID: id, Reason: reason, Reauthenticate: reason.Reauthenticate()})
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// bench is a tracker in a bubble, with an MCP server behind it.
type bench struct {
	t       *testing.T
	cloud   *rollcall
	tracker *Tracker
	handler http.Handler
	stop    func()
}

// bubble runs f in a bubble with a tracker whose lease is a minute.
func bubble(t *testing.T, configure func(*Config), handler http.HandlerFunc, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{t: t, cloud: newRollcall()}
		cfg := Config{URL: "http://rollcall", Key: "k", Application: api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000"),
			HTTPClient: &http.Client{Transport: b.cloud}, Lease: time.Minute}
		if configure != nil {
			configure(&cfg)
		}
		var err error
		if b.tracker, err = New(cfg); err != nil {
			t.Fatal(err)
		}
		if handler == nil {
			handler = func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if bytes.Contains(body, []byte(`"initialize"`)) {
					w.Header().Set(headerSession, "id-"+r.Header.Get("Authorization"))
				}
			}
		}
		b.handler = b.tracker.Middleware(handler)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = b.tracker.Run(ctx) })
		b.stop = func() { cancel(); running.Wait() }
		defer b.stop()
		f(b)
	})
}

const (
	initBody = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"%s","version":"1"}}}`
	listBody = `{"method":"tools/list","params":{},"jsonrpc":"2.0","id":2}`
	pingBody = `{"jsonrpc":"2.0","id":2,"method":"ping"}`
	pongBody = `{"jsonrpc":"2.0","id":2,"result":{ }}`
)

func (b *bench) do(ctx context.Context, method, body, token, id string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/mcp", strings.NewReader(body)).WithContext(ctx)
	r.RemoteAddr = "203.0.113.7:5555"
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if id != "" {
		r.Header.Set(headerSession, id)
	}
	w := httptest.NewRecorder()
	b.handler.ServeHTTP(w, r)
	return w
}

func (b *bench) post(body, token, id string) int {
	b.t.Helper()
	return b.do(b.t.Context(), http.MethodPost, body, token, id).Code
}

// known returns how much the tracker remembers of sessions.
func (b *bench) known() int {
	b.tracker.mu.Lock()
	defer b.tracker.mu.Unlock()
	return max(len(b.tracker.sessions), len(b.tracker.ids)) + len(b.tracker.queue) + len(b.tracker.gone)
}

// session returns the id of the one session that is open.
func (b *bench) session() (id api.SessionID) {
	b.cloud.mu.Lock()
	defer b.cloud.mu.Unlock()
	for id = range b.cloud.leases {
	}
	return id
}

func (b *bench) names() []string { return slices.Sorted(maps.Keys(b.cloud.live())) }

func (b *bench) wantLive(when string, want ...string) {
	b.t.Helper()
	if got := b.names(); !slices.Equal(got, want) {
		b.t.Errorf("%s: %q are listed, want %q", when, got, want)
	}
}

// TestLease: a client is listed from its first answer until it has been silent for the lease, and what counts as what.
func TestLease(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch body, _ := io.ReadAll(r.Body); {
		case r.Method == http.MethodGet:
			w.Header().Set("Content-Type", "text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		case bytes.Contains(body, []byte(`"initialize"`)):
			w.Header().Set(headerSession, "id-1")
		}
	}
	bubble(t, nil, handler, func(b *bench) {
		b.post(fmt.Sprintf(initBody, "alice"), "a", "")
		b.wantLive("at once", "alice")
		active := func() time.Time {
			return api.Millis(*b.cloud.live()["alice"].item.LastActiveAt).Time()
		}
		began := active()
		for range 6 { // pings keep it listed, and are no activity
			time.Sleep(30 * time.Second)
			b.post(pingBody, "a", "id-1")
			b.post(pongBody, "a", "id-1")
		}
		b.wantLive("after pings", "alice")
		if !active().Equal(began) {
			t.Error("pings are shown as activity")
		}
		b.post(listBody, "a", "id-1")
		at := time.Now()
		time.Sleep(2 * activityEvery)
		if got := active(); got.Before(at.Add(-time.Millisecond)) || got.After(at) {
			t.Errorf("active at %v, want %v", got, at)
		}

		ctx, hangUp := context.WithCancel(b.t.Context())
		var reading sync.WaitGroup
		reading.Go(func() { b.do(ctx, http.MethodGet, "", "a", "id-1") })
		time.Sleep(10 * time.Minute)
		b.wantLive("with an open stream", "alice")
		if got := active(); got.After(at) {
			t.Error("an open stream is shown as activity")
		}
		hangUp()
		reading.Wait()
		time.Sleep(50 * time.Second)
		b.wantLive("soon after the stream", "alice")
		time.Sleep(15 * time.Second)
		b.wantLive("after the lease")
		if n := b.known(); n != 0 {
			t.Errorf("%d are remembered", n)
		}
		b.post(listBody, "a", "id-1")
		synctest.Wait()
		if n := len(b.cloud.live()); n != 1 {
			t.Errorf("who comes back is %d sessions", n)
		}
	})
}

// TestAbandoned: clients that never say goodbye, a thousand every lease, cost nothing that stays.
func TestAbandoned(t *testing.T) {
	bubble(t, nil, nil, func(b *bench) {
		memory := func() uint64 {
			synctest.Wait()
			b.cloud.mu.Lock()
			clear(b.cloud.leases)
			b.cloud.mu.Unlock()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		round := func(n int) {
			for i := range 1000 {
				b.post(fmt.Sprintf(initBody, fmt.Sprintf("client-%d-%d", n, i)), fmt.Sprintf("token-%d-%d", n, i), "")
			}
			if got := len(b.names()); got != 1000 {
				t.Fatalf("%d are listed, want 1000", got)
			}
			time.Sleep(70 * time.Second)
			b.wantLive("after the lease")
		}
		round(0)
		before := memory()
		for n := range 5 {
			round(n + 1)
		}
		after := memory()
		if after > before+2<<20 {
			t.Errorf("the heap grew from %d to %d bytes", before, after)
		}
		if n := b.known(); n != 0 {
			t.Errorf("%d are remembered", n)
		}
	})
}

// TestBounded: whatever comes, no more than MaxSessions are known; the quiet ones make room.
func TestBounded(t *testing.T) {
	bubble(t, func(c *Config) { c.MaxSessions = 10 }, nil, func(b *bench) {
		for i := range 100 {
			if got := b.post(fmt.Sprintf(initBody, "flood"), fmt.Sprintf("t-%d", i), ""); got != http.StatusOK {
				t.Fatal(got)
			}
			if n := b.known(); n > 10 {
				t.Fatalf("%d sessions are known", n)
			}
		}
		r := newRemembered[int]()
		for i := range 3 * maxRemembered {
			r.add(i, time.Now().Add(time.Hour))
		}
		if len(r.until) != maxRemembered || len(r.order) != maxRemembered || r.has(0, time.Now()) || !r.has(3*maxRemembered-1, time.Now()) {
			t.Errorf("%d are remembered", len(r.until))
		}
	})
}

// TestAway: without Rollcall the server goes on, at full speed; what Rollcall missed it learns.
func TestAway(t *testing.T) {
	bubble(t, nil, nil, func(b *bench) {
		b.cloud.mu.Lock()
		b.cloud.hang = true
		b.cloud.mu.Unlock()
		at := time.Now()
		b.post(fmt.Sprintf(initBody, "first"), "1", "")
		if took := time.Since(at); took != DefaultOpenWait {
			t.Errorf("the first client waited %v", took)
		}
		time.Sleep(time.Minute / 2)
		at = time.Now()
		b.post(fmt.Sprintf(initBody, "second"), "2", "")
		if took := time.Since(at); took != 0 {
			t.Errorf("with Rollcall known to be away a client waited %v", took)
		}
		b.cloud.mu.Lock()
		b.cloud.hang = false
		b.cloud.mu.Unlock()
		b.post(listBody, "1", "id-Bearer 1")
		time.Sleep(25 * time.Second)
		b.wantLive("when it is back", "first", "second")

		b.cloud.mu.Lock()
		b.cloud.away = true
		var ids []api.SessionID
		for id, l := range b.cloud.leases {
			if l.item.ClientID == "first" {
				ids = append(ids, id)
				l.reason = api.EndDisconnected // nobody is told
			}
		}
		b.cloud.mu.Unlock()
		time.Sleep(30 * time.Second)
		if got := b.post(listBody, "1", "id-Bearer 1"); got != http.StatusOK {
			t.Errorf("while Rollcall is away: %d", got)
		}
		b.cloud.mu.Lock()
		b.cloud.away = false
		b.cloud.mu.Unlock()
		time.Sleep(10 * time.Second)
		if got := b.post(listBody, "1", "id-Bearer 1"); got != http.StatusUnauthorized {
			t.Errorf("an end that happened while nobody could be told of it: %d, of %v", got, ids)
		}
	})
}

// TestForgottenWhileAway: leases end while nobody can be told.
func TestForgottenWhileAway(t *testing.T) {
	bubble(t, nil, nil, func(b *bench) {
		b.cloud.mu.Lock()
		b.cloud.away = true
		b.cloud.mu.Unlock()
		for i := range 100 {
			b.post(fmt.Sprintf(initBody, "client"), fmt.Sprintf("t-%d", i), "")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		b.tracker.mu.Lock()
		defer b.tracker.mu.Unlock()
		if n := len(b.tracker.sessions) + len(b.tracker.ids); n != 0 {
			t.Errorf("%d are remembered", n)
		}
	})
}

// TestFailClosed: known sessions go on, new ones are refused.
func TestFailClosed(t *testing.T) {
	bubble(t, func(c *Config) { c.FailClosed = true }, nil, func(b *bench) {
		if got := b.post(fmt.Sprintf(initBody, "first"), "1", ""); got != http.StatusOK {
			t.Fatal(got)
		}
		b.cloud.mu.Lock()
		b.cloud.away = true
		b.cloud.mu.Unlock()
		if got := b.post(fmt.Sprintf(initBody, "second"), "2", ""); got != http.StatusServiceUnavailable {
			t.Errorf("a new client: %d", got)
		}
		if got := b.post(listBody, "1", "id-Bearer 1"); got != http.StatusOK {
			t.Errorf("a known client: %d", got)
		}
		b.cloud.mu.Lock()
		b.cloud.away = false
		b.cloud.mu.Unlock()
		time.Sleep(maxPause)
		if got := b.post(fmt.Sprintf(initBody, "second"), "2", ""); got != http.StatusOK {
			t.Errorf("a new client afterwards: %d", got)
		}
	})
}

// TestLapsed: a lease that ended at Rollcall while the client was there is opened anew, under another id.
func TestLapsed(t *testing.T) {
	bubble(t, nil, nil, func(b *bench) {
		b.post(fmt.Sprintf(initBody, "alice"), "a", "")
		id := b.session()
		b.cloud.end(id, api.EndLeaseExpired)
		time.Sleep(time.Second)
		b.wantLive("afterwards", "alice")
		if b.cloud.live()["alice"].item.ID == id {
			t.Error("an id was used again")
		}
		if got := b.post(listBody, "a", "id-Bearer a"); got != http.StatusOK {
			t.Error(got)
		}
		b.do(b.t.Context(), http.MethodDelete, "", "a", "id-Bearer a")
		synctest.Wait()
		b.wantLive("after DELETE")
	})
}

// TestRenewedTokens: every token that a session presented is refused when it is ended.
func TestRenewedTokens(t *testing.T) {
	secret := strings.Repeat("s", 32)
	bubble(t, func(c *Config) { c.Tokens = Tokens{HS256Secret: secret} }, nil, func(b *bench) {
		token := func(iat time.Duration) string {
			return sign(t, secret, "jo", time.Now().Add(iat), time.Now().Add(time.Hour))
		}
		old, renewed, other := token(-time.Minute), token(0), sign(t, secret, "mo", time.Now(), time.Now().Add(time.Hour))
		b.post(`{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"`+metaProtocolVersion+`":"2026-07-28","`+metaClientInfo+
			`":{"name":"agent","version":"1"}}}}`, old, "")
		modern := `{"jsonrpc":"2.0","id":1,"method":"x","params":{"_meta":{"` + metaProtocolVersion + `":"2026-07-28","` + metaClientInfo +
			`":{"version":"1","name":"agent","title":"Agent"}}}}`
		b.post(modern, renewed, "")
		b.wantLive("with a renewed token", "agent")
		if l := b.cloud.live()["agent"]; l.item.Login != "jo" || !l.item.Authorized {
			t.Errorf("opened as %+v", l.item)
		}
		b.cloud.end(b.session(), api.EndDisconnected)
		synctest.Wait()
		for name, token := range map[string]string{"old": old, "renewed": renewed} {
			if got := b.post(modern, token, ""); got != http.StatusUnauthorized {
				t.Errorf("the %s token: %d", name, got)
			}
		}
		if got := b.post(modern, other, ""); got != http.StatusOK {
			t.Errorf("another's token: %d", got)
		}
	})
}

// TestStuckHandler: a handler that takes no notice of the end of its request writes to nobody.
func TestStuckHandler(t *testing.T) {
	wrote := make(chan error, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		time.Sleep(time.Hour) // nothing ends it
		_, err := io.WriteString(w, "data: 2\n\n")
		wrote <- err
	}
	bubble(t, nil, handler, func(b *bench) {
		var calling sync.WaitGroup
		var answer string
		calling.Go(func() { answer = b.do(b.t.Context(), http.MethodPost, listBody, "a", "").Body.String() })
		synctest.Wait()
		b.cloud.end(b.session(), api.EndRevoked)
		calling.Wait()
		if err := <-wrote; !errors.Is(err, errEnded) {
			t.Errorf("it wrote: %v", err)
		}
		want := "data: 1\n\n" + string(refuseRevoked.event(json.RawMessage("2")))
		if answer != want {
			t.Errorf("the client got %q, want %q", answer, want)
		}
	})
}

// TestServerForgets: a session that the server does not know any more is over; one that it will not delete is not.
func TestServerForgets(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case bytes.Contains(body, []byte(`"initialize"`)):
			w.Header().Set(headerSession, "id-1")
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
	bubble(t, nil, handler, func(b *bench) {
		b.post(fmt.Sprintf(initBody, "alice"), "a", "")
		b.do(b.t.Context(), http.MethodDelete, "", "a", "id-1")
		synctest.Wait()
		b.wantLive("after a DELETE that was refused", "alice")
		b.post(listBody, "another", "id-1")
		synctest.Wait()
		b.wantLive("after another's 404", "alice")
		b.post(listBody, "a", "id-1")
		synctest.Wait()
		b.wantLive("after 404")
	})
}
