package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// heldLease starts HoldLease and returns the session's id, once it is open, and what HoldLease returns.
func heldLease(ctx context.Context, t *testing.T, cfg client.SessionConfig) (api.SessionID, <-chan error) {
	t.Helper()
	open, done := make(chan api.SessionID, 1), make(chan error, 1)
	cfg.OnEvent = func(e client.Event) {
		if r, ok := e.(api.LeaseReply); ok {
			open <- r.Session.ID
		}
	}
	go func() { done <- client.HoldLease(ctx, cfg, 15*time.Second) }()
	select {
	case id := <-open:
		return id, done
	case err := <-done:
		t.Fatalf("not opened: %v", err)
		return api.SessionID{}, nil
	}
}

func TestHoldLease(t *testing.T) {
	t.Parallel() // heartbeats are 5 s apart
	srv := testkit.Start(t, testkit.Config{})
	m := realManage(t, srv)
	asked := 0
	cfg := client.SessionConfig{URL: srv.URL, Hostname: "ci-7", Token: func(context.Context) (string, error) {
		asked++
		return testkit.Token(t, map[string]any{"exp": time.Now().Add(30 * time.Second).Unix(), "jti": api.NewSessionID().String()}), nil
	}}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	stays, left := heldLease(ctx, t, cfg)
	anonymous := client.SessionConfig{URL: srv.URL, PublishableKey: testkit.PublishableKey}
	goes, ended := heldLease(t.Context(), t, anonymous)
	if s, err := m.Session(t.Context(), testkit.App, stays, false); err != nil || *s.Hostname != "ci-7" || s.Status != api.StatusActive {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := m.Disconnect(t.Context(), testkit.App, goes, "stolen"); err != nil {
		t.Fatal(err)
	}
	var told *client.LeaseEndedError
	if err := <-ended; !errors.As(err, &told) || told.Reason != api.EndDisconnected || !told.Reauthenticate {
		t.Errorf("ended with %v", err)
	}
	testkit.Eventually(t, "a token that is about to expire is renewed", func() bool {
		s, err := m.Session(t.Context(), testkit.App, stays, false)
		return err == nil && s.LastActiveAt.String() > s.CreatedAt.String()
	})
	leave()
	if err := <-left; err != nil || asked < 2 {
		t.Errorf("left with %v, asked for %d tokens", err, asked)
	}
	if s, err := m.Session(t.Context(), testkit.App, stays, false); err != nil || s.Status != api.StatusDisconnected {
		t.Errorf("%+v, %v", s, err)
	}
	cfg.Token = func(context.Context) (string, error) { return "nonsense", nil }
	if err := client.HoldLease(t.Context(), cfg, 0); api.CodeOf(err) != api.CodeTokenInvalid {
		t.Errorf("with a bad token: %v", err)
	}
}

func TestReport(t *testing.T) {
	srv := testkit.Start(t, testkit.Config{})
	m := realManage(t, srv)
	id := api.NewSessionID()
	reply, err := m.Report(t.Context(), testkit.App, api.LeaseBatch{Reporter: "a", Items: []api.LeaseItem{
		{Op: api.LeaseOpen, ID: id, IPAddress: "203.0.113.9", Authorized: true, Login: "agent"}}})
	if err != nil || len(reply.Results) != 1 || !reply.Results[0].OK {
		t.Fatalf("%+v, %v", reply, err)
	}
	told := make(chan api.LeaseBatchReply, 1)
	go func() {
		reply, err := m.Report(t.Context(), testkit.App, api.LeaseBatch{Reporter: "a", WaitSeconds: 20})
		if err != nil {
			t.Error(err)
		}
		told <- reply
	}()
	if n, err := m.RevokeAll(t.Context(), testkit.App, ""); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if reply := <-told; len(reply.Ended) != 1 || reply.Ended[0].ID != id {
		t.Errorf("%+v", reply)
	}
}
