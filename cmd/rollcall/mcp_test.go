package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
	"github.com/rollcallhq/rollcall/mcp"
)

// TestMCP: the command in front of a server of the official Go SDK, with its own Rollcall server and with another; the endpoint is
// tracked, the rest of the server passes through.
func TestMCP(t *testing.T) {
	server := sdk.NewServer(&sdk.Implementation{Name: "s", Version: "1"}, nil)
	mux := http.NewServeMux()
	mux.Handle("/mcp", sdk.NewStreamableHTTPHandler(func(*http.Request) *sdk.Server { return server }, nil))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "upstream "+r.URL.Path) })
	upstream := httptest.NewServer(mux)
	defer upstream.Close()
	rollcall := testkit.Start(t, testkit.Config{})
	cert, certKey, trusting := testkit.Certificate(t)

	for name, c := range map[string]mcpCmd{
		"own server": {Serve: true, ServeListen: "127.0.0.1:0"},
		"TLS":        {Serve: true, ServeListen: "127.0.0.1:0", TLSCert: cert, TLSKey: certKey},
		"another": {keyFlags: keyFlags{serverFlag: serverFlag{URL: rollcall.URL}, Key: testkit.Key},
			applicationFlag: applicationFlag{Application: testkit.Number},
			Tokens:          mcpTokenFlags{AuthorizationServer: []string{"https://issuer.example"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c.Upstream, c.Listen, c.Lease, c.LogLevel, c.Drain = upstream.URL+"/mcp", "127.0.0.1:0", mcp.DefaultLease, "error", time.Second
			ctx, stop := context.WithCancel(t.Context())
			var out testkit.Log
			var running sync.WaitGroup
			running.Go(func() {
				if err := c.Run(ctx, &stdio{out: &out, err: io.Discard}); err != nil {
					t.Errorf("it ended with %v", err)
				}
			})
			defer running.Wait()
			defer stop()
			endpoint := await(t, &out, `https?://127\.0\.0\.1:\d+/mcp`)
			hc := http.DefaultClient
			if c.TLSCert != "" {
				hc = trusting
			}
			url, key := rollcall.URL, testkit.Key
			if c.Serve {
				key = await(t, &out, `rck_\w+`)
				url = strings.TrimPrefix(await(t, &out, `--url http://\S+`), "--url ")
			}
			get := func(path string) string {
				resp, err := hc.Get(strings.TrimSuffix(endpoint, "/mcp") + path)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, _ := io.ReadAll(resp.Body)
				return strings.TrimSpace(string(body))
			}
			if got := get("/authorize"); got != "upstream /authorize" {
				t.Errorf("beside the endpoint: %q", got)
			}
			want := "upstream " + mcp.WellKnown + "/mcp"
			if !c.Serve {
				want = fmt.Sprintf(`{"resource":%q,"authorization_servers":["https://issuer.example"],"bearer_methods_supported":["header"]}`, endpoint)
			}
			if got := get(mcp.WellKnown + "/mcp"); got != want {
				t.Errorf("resource metadata: %s, want %s", got, want)
			}
			session, err := sdk.NewClient(&sdk.Implementation{Name: "command", Version: "1"}, nil).Connect(ctx,
				&sdk.StreamableClientTransport{Endpoint: endpoint, HTTPClient: hc}, nil)
			if err != nil {
				t.Fatal(err)
			}
			m, err := client.NewManage(client.ManageConfig{URL: url, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			live, err := m.Live(ctx, client.Query{Application: demoNumber})
			if err != nil || live.Total != 1 || live.Items[0].ClientID != "command" {
				t.Errorf("listed: %+v %v", live, err)
			}
			stop() // with the client's stream open
			running.Wait()
			_ = session.Close()
		})
	}
}

// await waits until the output has what the pattern describes, and returns it.
func await(t *testing.T, out *testkit.Log, pattern string) string {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if found := regexp.MustCompile(pattern).FindString(out.String()); found != "" {
			return found
		}
	}
	t.Fatalf("%s was not printed", pattern)
	return ""
}
