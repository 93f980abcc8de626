package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

func (f *fake) manage() *client.Manage {
	f.t.Helper()
	m, err := client.NewManage(client.ManageConfig{URL: "http://rollcall.test", Key: "rck_x", HTTPClient: f.client})
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// initOf is the init of a page with the rows named, newest first.
func initOf(ids ...string) string {
	rows := make([]string, len(ids))
	for i, id := range ids {
		rows[i] = fmt.Sprintf(`{"serverId":"srv:%s","createdAt":%d}`, id, len(ids)-i)
	}
	return `{"type":"init","success":true,"items":[` + strings.Join(rows, ",") + `],"page":1,"pageSize":10}`
}

// ping pings until the client is gone.
func (p *peer) ping() {
	for {
		select {
		case _, ok := <-p.frames:
			if !ok {
				return
			}
		case <-time.After(30 * time.Second):
			if p.ws.Ping(p.ctx) != nil {
				return
			}
		}
	}
}

func ids(p client.Page) (out string) {
	for _, r := range p.Items {
		out += strings.TrimPrefix(string(r.ServerID), "srv:")
	}
	return out
}

func next(t *testing.T, w *client.Watch) client.Step {
	t.Helper()
	step, err := w.Next(t.Context())
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return step
}

func watch(t *testing.T, f *fake, q client.Query) *client.Watch {
	t.Helper()
	w, err := f.manage().Watch(t.Context(), q)
	if err != nil {
		t.Fatalf("Watch: %v", err)
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func TestWatchFollowsThePage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []map[string]any
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.send(initOf("b", "a"))
			time.Sleep(time.Second)
			p.send(`{"type":"removed","serverId":"srv:a"}`)
			p.send(`{"type":"added","row":{"serverId":"srv:c","createdAt":9}}`)
			time.Sleep(time.Second)
			asked = append(asked, <-p.frames, <-p.frames)
			p.send(`{"type":"error","success":false,"code":"insufficient_scope","message":"sessions:disconnect"}`)
			p.send(initOf("z"))
			p.ping()
		})
		w := watch(t, f, client.Query{Application: "123456789", Page: 2, PageSize: 5, Search: "a b", Totals: true,
			Categories: []api.Category{api.CategoryIP, api.CategoryClientID}})
		if s := next(t, w); ids(s.Page) != "ba" || len(s.Messages) != 1 || s.Messages[0].Type != "init" {
			t.Errorf("first step %+v", s)
		}
		time.Sleep(1500 * time.Millisecond) // both messages of the flush are there
		if s := next(t, w); ids(s.Page) != "cb" || len(s.Messages) != 2 {
			t.Errorf("after the flush %+v", s)
		}
		if err := w.Disconnect(t.Context(), "srv:c"); err != nil {
			t.Fatal(err)
		}
		if err := w.Query(t.Context(), client.Query{Page: 3, Search: "x"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		s := next(t, w)
		if ids(s.Page) != "z" || s.Refused == nil || s.Refused.Code != api.CodeInsufficientScope {
			t.Errorf("after the commands %+v", s)
		}
		want := []map[string]any{
			{"type": "disconnect_session", "serverId": "srv:c"},
			{"type": "query", "page": 3.0, "pageSize": 10.0, "searchString": "x", "categories": []any{"license"}},
		}
		if diff := cmp.Diff(want, asked); diff != "" {
			t.Errorf("sent (-want +got):\n%s", diff)
		}
		if want := "applicationId=123456789&categories=ip&categories=clientId&page=2&pageSize=5&searchString=a+b&totals=true"; f.queries[0] != want {
			t.Errorf("query %s, want %s", f.queries[0], want)
		}
		if _, err := next2(t, w); err == nil {
			t.Error("Next did not end with its context")
		}
		_ = w.Close()
		if _, err := w.Next(t.Context()); !errors.Is(err, client.ErrClosed) {
			t.Errorf("Next after Close: %v", err)
		}
	})
}

func next2(t *testing.T, w *client.Watch) (client.Step, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return w.Next(ctx)
}

func TestWatchReconnects(t *testing.T) {
	flawed := func(message string) script {
		return func(p *peer, _ *api.Hello) {
			p.send(initOf("a"))
			p.send(message)
			p.ping()
		}
	}
	for _, tc := range []struct {
		name string
		do   script
	}{
		{"connection lost", func(p *peer, _ *api.Hello) { p.send(initOf("a")); time.Sleep(time.Second) }},
		{"draining", func(p *peer, _ *api.Hello) {
			p.send(initOf("a"))
			time.Sleep(time.Second)
			p.send(`{"type":"error","success":false,"code":"unavailable","message":"draining"}`)
			_ = p.ws.Close(websocket.StatusGoingAway, "")
		}},
		{"silence", func(p *peer, _ *api.Hello) { p.send(initOf("a")); <-p.frames }},
		{"removed what is not there", flawed(`{"type":"removed","serverId":"srv:x"}`)},
		{"not JSON", flawed(`x`)},
		{"wrong types", flawed(`{"type":"added","row":7}`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t, tc.do, func(p *peer, _ *api.Hello) {
					p.send(initOf("b"))
					p.ping()
				})
				w := watch(t, f, client.Query{Application: "1"})
				for range 5 {
					s := next(t, w)
					if ids(s.Page) == "b" {
						if f.count() != 2 {
							t.Errorf("%d connections, want 2", f.count())
						}
						return
					}
				}
				t.Error("no fresh page came")
			})
		})
	}
}

// TestWatchSaysThatItIsDown holds that whoever shows a page can tell that it is an old one, and why.
func TestWatchSaysThatItIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t,
			func(p *peer, _ *api.Hello) {
				p.send(initOf("a"))
				time.Sleep(time.Second)
				p.send(`{"type":"error","success":false,"code":"unavailable","message":"draining"}`)
				_ = p.ws.Close(websocket.StatusGoingAway, "")
			},
			func(p *peer, _ *api.Hello) { time.Sleep(time.Minute) }, // connected, but nothing to show yet
			func(p *peer, _ *api.Hello) { p.send(initOf("b")); p.ping() })
		w := watch(t, f, client.Query{Application: "1"})
		_ = next(t, w)
		if err := w.Down(); err != nil {
			t.Errorf("connected, and down: %v", err)
		}
		time.Sleep(20 * time.Second)
		if err := w.Down(); err == nil || !strings.Contains(err.Error(), "draining") || f.count() != 2 {
			t.Errorf("after the connection was lost: %v, %d connections", err, f.count())
		}
		for ids(next(t, w).Page) != "b" {
		}
		if err := w.Down(); err != nil {
			t.Errorf("back, and down: %v", err)
		}
	})
}

func TestWatchReconnectsToTheQueryItWasMovedTo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t,
			func(p *peer, _ *api.Hello) {
				p.send(initOf("a"))
				<-p.frames
				p.send(initOf("b"))
				time.Sleep(time.Second)
			},
			func(p *peer, _ *api.Hello) { p.send(initOf("c")); p.ping() })
		w := watch(t, f, client.Query{Application: "1", Totals: true})
		_ = next(t, w)
		if err := w.Query(t.Context(), client.Query{Page: 4}); err != nil {
			t.Fatal(err)
		}
		for ids(next(t, w).Page) != "c" {
		}
		if f.queries[1] != "applicationId=1&page=4&totals=true" {
			t.Errorf("reconnected to %s", f.queries[1])
		}
	})
}

func TestWatchEndsWhenTheKeyDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.send(initOf("a"))
			p.send(`{"type":"error","success":false,"code":"api_key_revoked","message":"revoked"}`)
			_ = p.ws.Close(websocket.StatusPolicyViolation, "revoked")
		})
		w := watch(t, f, client.Query{Application: "1"})
		var err error
		for range 5 {
			if _, err = w.Next(t.Context()); err != nil {
				break
			}
		}
		if api.CodeOf(err) != api.CodeKeyRevoked || f.count() != 1 {
			t.Errorf("Next: %v after %d connections", err, f.count())
		}
	})
}

func TestWatchIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t, func(p *peer, _ *api.Hello) {})
		f.refuse = func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, `{"success":false,"code":"plan_restricted","message":"no"}`, http.StatusForbidden)
			return true
		}
		_, err := f.manage().Watch(t.Context(), client.Query{Application: "1"})
		if api.CodeOf(err) != api.CodePlanRestricted {
			t.Errorf("Watch: %v", err)
		}
	})
}

// TestWatchIsBounded holds that a reader that does not read makes the stream wait, not the memory grow.
func TestWatchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		f := newFake(t, func(p *peer, _ *api.Hello) {
			p.send(initOf("a"))
			for range 5000 {
				p.send(`{"type":"last_connection_time","value":5}`)
				sent++
			}
			p.ping()
		})
		w := watch(t, f, client.Query{Application: "1"})
		synctest.Wait()
		if sent > 1100 {
			t.Errorf("%d messages were taken in without a reader", sent)
		}
		got := 0
		for got < 5001 {
			got += len(next(t, w).Messages)
		}
	})
}
