package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// Sizes of TestChurn: those of the first issue's "done when".
const (
	churnClients  = 1000
	churnWatchers = 50
	churnRate     = 500 // changes a second
	churnRounds   = 3
	churnRound    = 3 * time.Second
)

// TestChurn: real clients come, go and change while watchers with assorted queries and pages, some of them slow, apply what they are
// sent; whenever the changes stop, every watcher's page equals the HTTP list (G1, G2).
func TestChurn(t *testing.T) {
	s := testkit.Start(t, testkit.Config{Gateway: gateway.Limits{FramesPerMinute: 1e6, FrameBurst: 1e6},
		Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}})
	crowd := newCrowd(t, s, churnClients)
	var watchers []*watcher
	for i := range churnWatchers {
		var slow time.Duration
		if i%5 == 0 {
			slow = time.Duration(2+i/20) * time.Millisecond // a message: a tenth of what the largest pages get
		}
		watchers = append(watchers, watch(t, s, testkit.Key, assorted(i), slow))
	}
	for round := range churnRounds {
		changes := crowd.churn(t, churnRound)
		t.Logf("round %d: %d changes", round, changes)
		if want := churnRate * int(churnRound/time.Second) / 4; changes < want {
			t.Errorf("only %d changes in %s: too few to prove anything", changes, churnRound)
		}
		for _, w := range watchers {
			want := ""
			testkit.Eventually(t, "the page of "+w.query.Encode()+" equals the HTTP list", func() bool {
				want = viewJSON(t, list(t, s, w.query).View, w.query)
				return w.page(t) == want
			})
		}
	}
	for _, w := range watchers {
		w.mu.Lock()
		if w.problem != nil || w.closed != nil {
			t.Errorf("watcher of %s: %v, %v", w.query.Encode(), w.problem, w.closed)
		}
		if w.deltas < 10 && w.query.Get("page") == "1" && w.query.Get("searchString") == "" {
			t.Errorf("watcher of %s saw only %d messages", w.query.Encode(), w.deltas)
		}
		w.mu.Unlock()
	}
}

// assorted returns the i-th of the watchers' queries: first and deep pages, all sizes, searches that match few and many.
func assorted(i int) url.Values {
	q := url.Values{"page": {fmt.Sprint([]int{1, 1, 2, 7, 40, 99}[i%6])}, "pageSize": {fmt.Sprint([]int{10, 50, 1, 25}[i%4])}}
	if i%2 == 0 {
		q.Set("totals", "true")
	}
	switch i % 5 {
	case 1:
		q.Set("searchString", fmt.Sprintf("Lic-%d", i%10))
	case 2:
		q.Set("searchString", fmt.Sprintf("client-00%d", i%10))
		q.Set("categories", string(api.CategoryClientID))
	case 3:
		q.Set("searchString", "7")
		q["categories"] = []string{"license", "ip", "clientId"}
	}
	return q
}

// crowd is a number of clients, each of which holds a session most of the time.
type crowd struct {
	s       *testkit.Server
	clients []*member
}

type member struct {
	mu      sync.Mutex
	n       int
	session *session
}

func newCrowd(t *testing.T, s *testkit.Server, n int) *crowd {
	c := &crowd{s: s}
	for i := range n {
		c.clients = append(c.clients, &member{n: i})
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				if err := c.clients[i].change(t, s, rand.New(rand.NewPCG(uint64(i), 1))); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, m := range c.clients {
			if m.session != nil {
				m.session.conn.CloseNow()
			}
		}
	})
	return c
}

// churn makes changes at churnRate for d and returns how many.
func (c *crowd) churn(t *testing.T, d time.Duration) int {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	limit := rate.NewLimiter(churnRate, churnRate/10)
	var wg sync.WaitGroup
	var mu sync.Mutex
	total := 0
	for w := range 8 {
		wg.Go(func() {
			random, done := rand.New(rand.NewPCG(uint64(w), 2)), 0
			for limit.Wait(ctx) == nil {
				if err := c.clients[random.IntN(len(c.clients))].change(t, c.s, random); err != nil {
					t.Error(err)
				}
				done++
			}
			mu.Lock()
			total += done
			mu.Unlock()
		})
	}
	wg.Wait()
	return total
}

// change does one thing that a client may do: connect, leave politely or not, or become authorized as somebody else.
func (m *member) change(t *testing.T, s *testkit.Server, random *rand.Rand) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	claims := map[string]any{"license": fmt.Sprintf("lic-%d-%d", m.n%10, random.IntN(1000)), "sub": fmt.Sprintf("user%d@example.com", m.n)}
	if m.n%3 == 0 {
		claims["cid"] = fmt.Sprintf("client-%04d", m.n)
	}
	ctx := context.WithoutCancel(t.Context())
	if m.session == nil {
		first := hello(testkit.Token(t, claims), nil)
		if m.n%4 == 1 {
			first = hello("", map[string]any{"token": nil, "publishableKey": testkit.PublishableKey})
		}
		c, err := open(ctx, s, first)
		m.session = c
		return err
	}
	c := m.session
	switch random.IntN(4) {
	case 0:
		m.session = nil
		if err := c.send(ctx, map[string]any{"type": api.TypeBye}); err != nil {
			return err
		}
		<-c.ended
	case 1:
		m.session = nil
		return c.conn.CloseNow()
	case 2:
		return c.send(ctx, map[string]any{"type": api.TypeActivity})
	default:
		if m.n%4 != 1 {
			return c.send(ctx, map[string]any{"type": api.TypeUpdate, "name": fmt.Sprint("name ", random.IntN(100))})
		}
		return c.send(ctx, map[string]any{"type": api.TypeAuthorize, "token": testkit.Token(t, claims)})
	}
	return nil
}

// TestRevokeAll: under a storm of connects, when revoke-all has answered, no session from before it is connected, the count is the
// number of clients that were told, the records name who did it, and no old token opens a session again (G3, G4).
func TestRevokeAll(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	var mine api.TokenReply
	issue := func() string {
		status, body := s.Do(t, testkit.Key, http.MethodPost, api.RoutePrefix+"/applications/"+testkit.App.String()+"/session-tokens",
			api.TokenInput{Login: "jane@example.com", ExpiresIn: 600})
		decode(t, status, http.StatusCreated, body, &mine)
		return mine.Token
	}
	foreign, issued := testkit.Token(t, nil), issue()
	first := []map[string]any{hello(foreign, nil), hello(issued, nil),
		hello("", map[string]any{"token": nil, "publishableKey": testkit.PublishableKey})}

	var mu sync.Mutex
	var all []*session
	unwelcomed := 0 // ended by the call between their row and their welcome
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				c, err := open(context.WithoutCancel(ctx), s, first[i%len(first)])
				mu.Lock()
				var refused *refusal
				if err == nil {
					all = append(all, c)
				} else if errors.As(err, &refused) && refused.last.Code == 4103.0 {
					unwelcomed++
				}
				mu.Unlock()
			}
		})
	}
	testkit.Eventually(t, "200 sessions", func() bool { mu.Lock(); defer mu.Unlock(); return len(all) >= 200 })
	status, body := s.Do(t, testkit.Key, http.MethodDelete, sessionsPath(testkit.App, "?reason=stolen+laptop"), nil)
	answered := time.Now()
	live := list(t, s, url.Values{"pageSize": {"50"}})
	stop()
	wg.Wait()
	var result api.DisconnectResult
	decode(t, status, http.StatusOK, body, &result)

	if live.AuthorizedSessionCount != 0 {
		t.Errorf("%d authorized sessions are listed after revoke-all answered", live.AuthorizedSessionCount)
	}
	told := 0
	testkit.Eventually(t, "every revoked client is told", func() bool {
		told = unwelcomed
		for _, c := range all {
			select {
			case <-c.ended:
				c.end(t, 4103)
				if told++; c.last.Reason != "stolen laptop" {
					t.Fatalf("the client was told %q", c.last.Reason)
				}
			default:
			}
		}
		return told >= result.DisconnectedCount
	})
	if told != result.DisconnectedCount {
		t.Errorf("disconnectedCount is %d, but %d clients were told", result.DisconnectedCount, told)
	}
	revoked, cursor := 0, ""
	for {
		var page api.SessionList
		s.Get(t, testkit.Key, sessionsPath(testkit.App, "?status=inactive&details=true&limit=100"+cursor), &page)
		for _, it := range page.Items {
			if it.Details.EndReason == api.EndRevoked && it.Details.EndedBy == "0123456789abcdef" && it.Details.Reason == "stolen laptop" {
				revoked++
			}
			if it.DisconnectedAt != nil && time.UnixMilli(int64(*it.DisconnectedAt)).After(answered.Add(time.Second)) {
				t.Errorf("session %s was ended after the answer", it.ID)
			}
		}
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + url.QueryEscape(page.NextCursor)
	}
	if revoked != result.DisconnectedCount {
		t.Errorf("%d records say revoked, disconnectedCount is %d", revoked, result.DisconnectedCount)
	}
	for name, token := range map[string]string{"foreign": foreign, "issued": issued} {
		if c, err := open(t.Context(), s, hello(token, nil)); err == nil {
			t.Errorf("the %s token from before the call opened session %s", name, c.ID)
		}
	}
	mustOpen(t, s, hello(issue(), nil))
	mustOpen(t, s, first[2])
}
