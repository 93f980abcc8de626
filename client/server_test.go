package client_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

func realManage(t *testing.T, srv *testkit.Server) *client.Manage {
	t.Helper()
	m, err := client.NewManage(client.ManageConfig{URL: srv.URL, Key: testkit.Key})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestRealServerChurn lets real sessions come, go and change while watches follow several queries, and compares each watch's page
// with the list once all is quiet.
func TestRealServerChurn(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	m := realManage(t, srv)
	queries := []client.Query{
		{Application: testkit.Number, Totals: true},
		{Application: testkit.App.String(), Page: 2, PageSize: 3, Totals: true},
		{Application: testkit.Number, PageSize: 50, Search: "a1", Totals: true},
		{Application: testkit.Number, PageSize: 5, Search: "CLIENT-1", Totals: true,
			Categories: []api.Category{api.CategoryClientID, api.CategoryIP}},
	}
	watches := make([]*client.Watch, len(queries))
	for i, q := range queries {
		w, err := m.Watch(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		watches[i] = w
	}

	ctx, stop := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer stop()
	var clients sync.WaitGroup
	hold := make(chan struct{}) // closed when the comparison is done
	for n := range 12 {
		clients.Go(func() {
			for round := 0; ; round++ {
				// The last round's session stays, so that there is something to compare.
				stay := ctx.Err() != nil
				visit(t, srv, fmt.Sprintf("client-%d-%d", n, round), stay, hold)
				if stay {
					return
				}
			}
		})
	}
	defer clients.Wait()
	defer close(hold)

	for i, q := range queries {
		var page client.Page
		testkit.Eventually(t, fmt.Sprintf("watch %d equals the list", i), func() bool {
			short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			for {
				step, err := watches[i].Next(short)
				if err != nil {
					break
				}
				page = step.Page
			}
			list, err := m.Live(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			return ctx.Err() != nil && list.Total == 12 && cmp.Equal(list.View, page.View)
		})
	}
}

// visit holds one session for a moment, or until hold is closed.
func visit(t *testing.T, srv *testkit.Server, name string, stay bool, hold <-chan struct{}) {
	token := testkit.Token(t, map[string]any{"sub": name + "@example.com", "license": "A1-" + name})
	cfg := client.SessionConfig{URL: srv.URL, ClientID: name}
	upgrade := rand.IntN(3) == 0
	if upgrade {
		cfg.PublishableKey = testkit.PublishableKey
	} else {
		cfg.Token = func(context.Context) (string, error) { return token, nil }
	}
	open := make(chan struct{})
	cfg.OnEvent = func(e client.Event) {
		if _, ok := e.(api.Welcome); ok {
			close(open)
		}
	}
	s, err := client.NewSession(cfg)
	if err != nil {
		t.Error(err)
		return
	}
	var run sync.WaitGroup
	run.Go(func() {
		if err := s.Run(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	<-open
	if upgrade {
		if err := s.Authorize(t.Context(), token); err != nil {
			t.Error(err)
		}
	}
	if stay {
		<-hold
	} else {
		time.Sleep(rand.N(40 * time.Millisecond))
	}
	if err := s.Bye(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
	run.Wait()
}

// TestRealServerEndsSessions holds that an operator's ends reach the client, over HTTP and over a stream, that the client comes
// back with another token, and that the records say what happened.
func TestRealServerEndsSessions(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	m := realManage(t, srv)
	events := make(chan client.Event, 100)
	asked := 0
	s, err := client.NewSession(client.SessionConfig{
		URL: srv.URL, OnEvent: func(e client.Event) { events <- e }, MinBackoff: 10 * time.Millisecond,
		Token: func(ctx context.Context) (string, error) {
			asked++
			reply, err := m.IssueToken(ctx, testkit.App, api.TokenInput{Login: "john@example.com", ExpiresIn: 60})
			return reply.Token, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() {
		if err := s.Run(t.Context()); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	defer run.Wait()
	defer func() { _ = s.Bye(context.WithoutCancel(t.Context())) }()
	w, err := m.Watch(t.Context(), client.Query{Application: testkit.Number})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()

	welcome := await[api.Welcome](t, events)
	ends := []struct {
		code api.CloseCode
		do   func() error
		want api.EndReason
	}{
		{api.CloseDisconnected, func() error { return w.Disconnect(t.Context(), welcome.ServerID) }, api.EndDisconnected},
		{api.CloseDisconnected, func() error {
			n, err := m.Disconnect(t.Context(), testkit.App, welcome.SessionID, "by hand")
			if n != 1 {
				t.Errorf("ended %d sessions, want 1", n)
			}
			return err
		}, api.EndDisconnected},
		{api.CloseRevoked, func() error {
			n, err := m.RevokeAll(t.Context(), testkit.App, "")
			if n != 1 {
				t.Errorf("revoked %d sessions, want 1", n)
			}
			return err
		}, api.EndRevoked},
	}
	for _, end := range ends {
		if err := end.do(); err != nil {
			t.Fatal(err)
		}
		if d := await[api.Disconnect](t, events); d.Code != end.code || !d.Reauthenticate {
			t.Errorf("disconnect %+v, want %d", d, end.code)
		}
		old := welcome.SessionID
		welcome = await[api.Welcome](t, events)
		rec, err := m.Session(t.Context(), testkit.App, old, true)
		if err != nil || rec.Details == nil || rec.Details.EndReason != end.want || rec.Details.EndedBy == "" {
			t.Errorf("record %+v (%v), want %s", rec.Details, err, end.want)
		}
	}
	if want := 1 + len(ends); asked != want {
		t.Errorf("asked for %d tokens, want %d", asked, want)
	}
	var all []api.SessionID
	for s, err := range m.Sessions(t.Context(), testkit.App, client.SessionQuery{Status: "all", Limit: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s.ID)
	}
	if len(all) != 1+len(ends) || all[0] != welcome.SessionID || len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Errorf("listed %v", all)
	}
}

// await returns the next event of a kind.
func await[T any](t *testing.T, events <-chan client.Event) T {
	t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		select {
		case e := <-events:
			if v, ok := e.(T); ok {
				return v
			}
		case <-timeout:
			t.Fatalf("no %T came", *new(T))
		}
	}
}

// TestRealServerRefusals holds that the codes of a real server's refusals arrive, in both dialects and on both sockets.
func TestRealServerRefusals(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	m := realManage(t, srv)
	wrong, err := client.NewManage(client.ManageConfig{URL: srv.URL, Key: "rck_no"})
	if err != nil {
		t.Fatal(err)
	}
	reader, err := client.NewManage(client.ManageConfig{URL: srv.URL, Key: testkit.ReadKey})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := client.NewAdmin(client.ManageConfig{URL: srv.URL, Key: srv.AdminToken})
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do   func() error
		want api.Code
	}{
		"a key that is none": {func() error {
			_, err := wrong.Live(t.Context(), client.Query{Application: testkit.Number})
			return err
		}, api.CodeKeyInvalid},
		"a stream with it": {func() error {
			_, err := wrong.Watch(t.Context(), client.Query{Application: testkit.Number})
			return err
		}, api.CodeKeyInvalid},
		"a scope": {func() error { _, err := reader.RevokeAll(t.Context(), testkit.App, ""); return err }, api.CodeInsufficientScope},
		"another organization's application": {func() error {
			_, err := m.Watch(t.Context(), client.Query{Application: testkit.OtherNumber})
			return err
		}, api.CodeApplicationNotFound},
		"a page size": {func() error {
			_, err := m.Live(t.Context(), client.Query{Application: testkit.Number, PageSize: 51})
			return err
		}, api.CodeValidation},
		"an unknown organization": {func() error { _, err := admin.Keys(t.Context(), api.OrganizationID{}); return err }, api.CodeNotFound},
		"a session's key": {func() error {
			return client.Hold(t.Context(), client.SessionConfig{URL: srv.URL, PublishableKey: "rca_aaaaaaaaaaaaaaaa"})
		}, api.CodePublishableKeyInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			if err := tc.do(); api.CodeOf(err) != tc.want {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

// TestRealWatchMovesToWhatIsAsked holds that a query says everything: what one search left on the stream is not in the next.
func TestRealWatchMovesToWhatIsAsked(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	w, err := realManage(t, srv).Watch(t.Context(), client.Query{Application: testkit.Number, Page: 2, PageSize: 3, Search: "a",
		Categories: []api.Category{api.CategoryIP, api.CategoryClientID}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	hold := make(chan struct{})
	var clients sync.WaitGroup
	defer clients.Wait()
	defer close(hold)
	clients.Go(func() { visit(t, srv, "client-1", true, hold) })
	if err := w.Query(t.Context(), client.Query{}); err != nil {
		t.Fatal(err)
	}
	for {
		step, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(step.Page.Items) == 1 && step.Page.Page == 1 && step.Page.PageSize == api.DefaultPageSize {
			return
		}
	}
}
