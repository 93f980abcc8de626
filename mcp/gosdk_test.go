package mcp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
	"github.com/rollcallhq/rollcall/mcp"
)

// The official Go SDK, client and server, through the gateway, on both generations of the protocol.
var generations = []struct {
	name      string
	version   string
	stateless bool
}{
	{"legacy", "2025-11-25", false},
	{"modern", "2026-07-28", true},
}

func sdkHandler(t testing.TB, stateless bool) http.Handler {
	server := sdkServer(t)
	return sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server },
		&sdk.StreamableHTTPOptions{Stateless: stateless, EventStore: sdk.NewMemoryEventStore(nil), PropagateRequestCancellation: true})
}

// dial connects a client named name. A modern one opens a stream for changes of the tools, a legacy one its GET stream.
func dial(t testing.TB, endpoint, version, name string, hc *http.Client, options sdk.ClientOptions) *sdk.ClientSession {
	t.Helper()
	if options.ToolListChangedHandler == nil {
		options.ToolListChangedHandler = func(context.Context, *sdk.ToolListChangedRequest) {}
	}
	c := sdk.NewClient(&sdk.Implementation{Name: name, Version: "1.0"}, &options)
	s, err := c.Connect(t.Context(), &sdk.StreamableClientTransport{Endpoint: endpoint, HTTPClient: hc},
		&sdk.ClientSessionOptions{ProtocolVersion: version})
	if err != nil {
		t.Fatalf("connecting to %s: %v", endpoint, err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// transcript is everything that a client sees of a server.
func transcript(t testing.TB, endpoint, version string) (out []string) {
	t.Helper()
	var mu sync.Mutex
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, fmt.Sprintf(format, args...))
	}
	progress := make(chan struct{}, 100)
	s := dial(t, endpoint, version, "transcript", nil, sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) {
			note("progress %v of %v", r.Params.Progress, r.Params.Total)
			progress <- struct{}{}
		}})
	ctx := t.Context()
	show := func(what string, v any, err error) {
		body, _ := json.Marshal(v)
		note("%s: %s %v", what, body, err)
	}
	tools, err := s.ListTools(ctx, nil)
	show("tools", tools, err)
	greeted, err := s.CallTool(ctx, &sdk.CallToolParams{Name: "greet", Arguments: map[string]any{"name": "Jo"}})
	show("greet", greeted, err)
	_, err = s.CallTool(ctx, &sdk.CallToolParams{Name: "no such tool"})
	show("no tool", nil, err)
	params := &sdk.CallToolParams{Name: "count", Arguments: map[string]any{"steps": 5}}
	params.SetProgressToken("p")
	counted, err := s.CallTool(ctx, params)
	for range 5 {
		<-progress
	}
	show("count", counted, err)
	resources, err := s.ListResources(ctx, nil)
	show("resources", resources, err)
	page, err := s.ReadResource(ctx, &sdk.ReadResourceParams{URI: "test://page"})
	show("read", page, err)
	_, err = s.ReadResource(ctx, &sdk.ReadResourceParams{URI: "test://none"})
	show("none", nil, err)
	note("close: %v", s.Close())
	return out
}

func TestGoSDK(t *testing.T) {
	for _, g := range generations {
		t.Run(g.name, func(t *testing.T) {
			f := start(t, serve(t, sdkHandler(t, g.stateless))+"/mcp")
			want := transcript(t, f.upstream, g.version)
			if n := len(f.list()); n != 0 {
				t.Errorf("%d sessions of clients that went past the gateway", n)
			}
			if diff := cmp.Diff(want, transcript(t, f.gateway, g.version)); diff != "" {
				t.Errorf("through the gateway it is not the same (-direct +gateway):\n%s", diff)
			}

			s := dial(t, f.gateway, g.version, "go-sdk-client", as("opaque"), sdk.ClientOptions{})
			if got := s.InitializeResult().ProtocolVersion; got != g.version {
				t.Errorf("protocol %s, want %s", got, g.version)
			}
			var got api.Session
			for _, l := range f.list() {
				if l.Details.ClientID == "go-sdk-client" {
					got = l
				}
			}
			var info map[string]any
			if err := json.Unmarshal(got.ClientInfo, &info); err != nil || info["name"] != "go-sdk-client" || info["version"] != "1.0" {
				t.Errorf("clientInfo is %s", got.ClientInfo)
			}
			if d := got.Details; !d.Authorized || d.IPAddress != "127.0.0.1" || got.UserAgent == nil || *got.UserAgent != "Go-http-client/1.1" {
				t.Errorf("listed as %+v %+v", got, d)
			}
			closed := s.Close()
			if g.stateless {
				return // there is no goodbye: the lease ends it
			}
			if closed != nil {
				t.Error(closed)
			}
			eventually(t, "DELETE ends the session", func() bool {
				ended, err := f.manage.Session(t.Context(), testkit.App, got.ID, true)
				return err == nil && ended.Status == "disconnected" && ended.Details.EndReason == api.EndClientClosed
			})
		})
	}
}

// TestProbe: a client of both generations is one session, whichever the server is of.
func TestProbe(t *testing.T) {
	for _, g := range generations {
		t.Run(g.name, func(t *testing.T) {
			f := start(t, serve(t, sdkHandler(t, g.stateless))+"/mcp")
			s := dial(t, f.gateway, "2026-07-28", "both", nil, sdk.ClientOptions{})
			if got := s.InitializeResult().ProtocolVersion; got != g.version {
				t.Errorf("protocol %s, want %s", got, g.version)
			}
			f.one()
		})
	}
}

func TestParallelClients(t *testing.T) {
	for _, g := range generations {
		t.Run(g.name, func(t *testing.T) {
			f := start(t, serve(t, sdkHandler(t, g.stateless))+"/mcp")
			const clients = 20
			var all sync.WaitGroup
			for i := range clients {
				all.Go(func() {
					name := fmt.Sprintf("client-%02d", i)
					s := dial(t, f.gateway, g.version, name, as(name), sdk.ClientOptions{})
					for range 5 {
						r, err := s.CallTool(t.Context(), &sdk.CallToolParams{Name: "greet", Arguments: map[string]any{"name": name}})
						if err != nil || r.Content[0].(*sdk.TextContent).Text != "Hello, "+name {
							t.Errorf("%s: %v %v", name, r, err)
						}
					}
				})
			}
			all.Wait()
			seen := map[string]int{}
			for _, s := range f.list() {
				seen[s.Details.ClientID]++
			}
			if len(seen) != clients {
				t.Errorf("%d clients are listed, want %d: %v", len(seen), clients, seen)
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("%s is listed %d times", name, n)
				}
			}
		})
	}
}

// TestDisconnectReachesStreams: an operator's disconnect ends an open stream, and the client is told what the authorization
// specification wants.
func TestDisconnectReachesStreams(t *testing.T) {
	for _, g := range generations {
		for _, front := range []string{"gateway", "middleware"} {
			t.Run(g.name+"/"+front, func(t *testing.T) {
				handler := sdkHandler(t, g.stateless)
				f := start(t, serve(t, handler)+"/mcp")
				if front == "middleware" {
					f.gateway = serve(t, f.tracker.Middleware(handler)) + "/mcp"
				}
				running := make(chan struct{}, 1)
				s := dial(t, f.gateway, g.version, "streaming", as("token-1"), sdk.ClientOptions{
					ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) {
						select {
						case running <- struct{}{}:
						default:
						}
					}})
				ended := make(chan time.Time, 1)
				var calling sync.WaitGroup
				calling.Go(func() {
					params := &sdk.CallToolParams{Name: "count", Arguments: map[string]any{"steps": 3000}}
					params.SetProgressToken("p")
					_, err := s.CallTool(t.Context(), params)
					ended <- time.Now()
					if err == nil {
						t.Error("the call was answered")
					}
				})
				<-running
				session := f.one()
				at := time.Now()
				f.disconnect(session.ID)
				took := (<-ended).Sub(at)
				calling.Wait()
				t.Logf("the call ended %v after the disconnect was asked for", took)
				if took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
				if n := len(f.list()); n != 0 {
					t.Errorf("%d sessions are listed after the disconnect", n)
				}
				if got, challenge := f.post("token-1", ""); got != http.StatusUnauthorized || challenge == "" {
					t.Errorf("the next request: %d %q", got, challenge)
				}
				again := dial(t, f.gateway, g.version, "streaming", as("token-2"), sdk.ClientOptions{})
				if _, err := again.ListTools(t.Context(), nil); err != nil {
					t.Error(err)
				}
				if got := f.one(); got.ID == session.ID {
					t.Error("the session of the new token is the one that was ended")
				}
			})
		}
	}
}

// TestNoBuffering: what the server sends early arrives early.
func TestNoBuffering(t *testing.T) {
	f := start(t, serve(t, sdkHandler(t, false))+"/mcp")
	arrived := make(chan time.Time, 100)
	s := dial(t, f.gateway, "2025-11-25", "patient", nil, sdk.ClientOptions{
		ProgressNotificationHandler: func(context.Context, *sdk.ProgressNotificationClientRequest) { arrived <- time.Now() }})
	params := &sdk.CallToolParams{Name: "count", Arguments: map[string]any{"steps": 50}}
	params.SetProgressToken("p")
	if _, err := s.CallTool(t.Context(), params); err != nil {
		t.Fatal(err)
	}
	answered := time.Now()
	if early := answered.Sub(<-arrived); early < 300*time.Millisecond {
		t.Errorf("the first of 50 events arrived only %v before the answer", early)
	}
}

func TestConfig(t *testing.T) {
	good := mcp.Config{URL: "http://127.0.0.1:1", Key: "k", Application: testkit.App}
	for name, breakIt := range map[string]func(*mcp.Config){
		"no application":     func(c *mcp.Config) { c.Application = api.ApplicationID{} },
		"no key":             func(c *mcp.Config) { c.Key = "" },
		"no url":             func(c *mcp.Config) { c.URL = "" },
		"short lease":        func(c *mcp.Config) { c.Lease = time.Second },
		"long lease":         func(c *mcp.Config) { c.Lease = 2 * time.Hour },
		"negative wait":      func(c *mcp.Config) { c.OpenWait = -1 },
		"short secret":       func(c *mcp.Config) { c.Tokens.HS256Secret = "short" },
		"two ways to verify": func(c *mcp.Config) { c.Tokens = mcp.Tokens{JWKSURL: "https://a", HS256Secret: testkit.Secret} },
		"required, no keys":  func(c *mcp.Config) { c.Tokens.Required = true },
		"quotes":             func(c *mcp.Config) { c.Challenge.Scope = `a"b` },
	} {
		cfg := good
		breakIt(&cfg)
		if _, err := mcp.New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := mcp.New(good); err != nil {
		t.Error(err)
	}
}
