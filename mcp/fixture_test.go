package mcp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
	"github.com/rollcallhq/rollcall/mcp"
)

// fixture is a gateway in front of an MCP server, with a real Rollcall server behind it.
type fixture struct {
	t        *testing.T
	server   *testkit.Server
	manage   *client.Manage
	tracker  *mcp.Tracker
	upstream string // the MCP endpoint itself
	gateway  string // the same through the gateway
}

// start puts the gateway in front of upstream, a URL with a path. configure may change what it is given.
func start(t *testing.T, upstream string, configure ...func(*mcp.Config)) *fixture {
	t.Helper()
	server := testkit.Start(t, testkit.Config{})
	return startAt(t, server, upstream, configure...)
}

func startAt(t *testing.T, server *testkit.Server, upstream string, configure ...func(*mcp.Config)) *fixture {
	t.Helper()
	m, err := client.NewManage(client.ManageConfig{URL: server.URL, Key: testkit.Key})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, server: server, manage: m, upstream: upstream}
	cfg := mcp.Config{URL: server.URL, Key: testkit.Key, Application: testkit.App, Server: upstream}
	for _, c := range configure {
		c(&cfg)
	}
	if f.tracker, err = mcp.New(cfg); err != nil {
		t.Fatal(err)
	}
	to, err := url.Parse(upstream)
	if err != nil {
		t.Fatal(err)
	}
	proxy, err := mcp.NewProxy(mcp.ProxyConfig{Upstream: to})
	if err != nil {
		t.Fatal(err)
	}
	run(t, f.tracker)
	front := serve(t, f.tracker.Middleware(proxy))
	f.gateway = front + to.Path
	return f
}

// run runs the tracker until the test ends.
func run(t testing.TB, tracker *mcp.Tracker) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := tracker.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// serve serves until the test ends, and closes what is open then.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.URL
}

// list returns the live sessions, newest first.
func (f *fixture) list() []api.Session { return f.query("active") }

func (f *fixture) query(status string) []api.Session {
	f.t.Helper()
	var out []api.Session
	for s, err := range f.manage.Sessions(f.t.Context(), testkit.App, client.SessionQuery{Status: status, Details: true}) {
		if err != nil {
			f.t.Fatal(err)
		}
		out = append(out, s)
	}
	return out
}

// one returns the only live session.
func (f *fixture) one() api.Session {
	f.t.Helper()
	list := f.list()
	if len(list) != 1 {
		f.t.Fatalf("%d live sessions, want 1: %+v", len(list), list)
	}
	return list[0]
}

// eventually waits for what happens soon, and fails when it does not.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if is() {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within 10 s", what)
		}
	}
}

// disconnect ends a session as an operator does.
func (f *fixture) disconnect(id api.SessionID) {
	f.t.Helper()
	if _, err := f.manage.Disconnect(f.t.Context(), testkit.App, id, "test"); err != nil {
		f.t.Fatal(err)
	}
}

// bearer sends an Authorization header with every request.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

func as(token string) *http.Client { return &http.Client{Transport: bearer(token)} }

// sdkServer is a server written with the official Go SDK: a quick tool, a long one that tells of its progress, and a resource.
func sdkServer(t testing.TB) *sdk.Server {
	t.Helper()
	s := sdk.NewServer(&sdk.Implementation{Name: "sdk-server", Version: "v1"}, nil)
	type greeting struct {
		Name string `json:"name"`
	}
	sdk.AddTool(s, &sdk.Tool{Name: "greet"}, func(_ context.Context, _ *sdk.CallToolRequest, in greeting) (*sdk.CallToolResult, any, error) {
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "Hello, " + in.Name}}}, nil, nil
	})
	type count struct {
		Steps int `json:"steps"`
	}
	sdk.AddTool(s, &sdk.Tool{Name: "count"}, func(ctx context.Context, r *sdk.CallToolRequest, in count) (*sdk.CallToolResult, any, error) {
		for i := range in.Steps {
			err := r.Session.NotifyProgress(ctx, &sdk.ProgressNotificationParams{
				ProgressToken: r.Params.GetProgressToken(), Progress: float64(i + 1), Total: float64(in.Steps)})
			if err != nil {
				return nil, nil, err
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return nil, nil, ctx.Err()
			}
		}
		return &sdk.CallToolResult{Content: []sdk.Content{&sdk.TextContent{Text: "done"}}}, nil, nil
	})
	s.AddResource(&sdk.Resource{Name: "page", URI: "test://page", MIMEType: "text/plain"},
		func(context.Context, *sdk.ReadResourceRequest) (*sdk.ReadResourceResult, error) {
			return &sdk.ReadResourceResult{Contents: []*sdk.ResourceContents{{URI: "test://page", Text: "contents", MIMEType: "text/plain"}}}, nil
		})
	return s
}
