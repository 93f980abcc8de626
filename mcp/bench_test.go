package mcp_test

import (
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/testkit"
	"github.com/rollcallhq/rollcall/mcp"
)

// benchFronts returns an MCP server that does next to nothing, as it is, behind the middleware, and behind the gateway.
func benchFronts(b *testing.B, stream http.HandlerFunc) (direct, middleware, gateway string, m *client.Manage) {
	b.Helper()
	server := testkit.Start(b, testkit.Config{Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}})
	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			stream(w, r)
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":2,"result":{"content":[{"type":"text","text":"Hello"}]}}`)
	})
	direct = serve(b, upstream)
	m, err := client.NewManage(client.ManageConfig{URL: server.URL, Key: testkit.Key})
	if err != nil {
		b.Fatal(err)
	}
	tracker, err := mcp.New(mcp.Config{URL: server.URL, Key: testkit.Key, Application: testkit.App})
	if err != nil {
		b.Fatal(err)
	}
	run(b, tracker)
	to, err := url.Parse(direct)
	if err != nil {
		b.Fatal(err)
	}
	proxy, err := mcp.NewProxy(mcp.ProxyConfig{Upstream: to})
	if err != nil {
		b.Fatal(err)
	}
	return direct, serve(b, tracker.Middleware(upstream)), serve(b, tracker.Middleware(proxy)), m
}

// BenchmarkOverhead is the median time of a tool call without and with the middleware and the gateway, taken in turn.
func BenchmarkOverhead(b *testing.B) {
	direct, middleware, gateway, _ := benchFronts(b, nil)
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
	defer hc.CloseIdleConnections()
	body := strings.Replace(modernTools("bench"), "tools/list", "tools/call", 1)
	call := func(at string) time.Duration {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, at, strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer bench")
		began := time.Now()
		resp, err := hc.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Fatal(resp.Status)
		}
		return time.Since(began)
	}
	fronts := []string{direct, middleware, gateway}
	times := make([][]time.Duration, len(fronts))
	for _, at := range fronts {
		call(at)
	}
	for b.Loop() {
		for i, at := range fronts {
			times[i] = append(times[i], call(at))
		}
	}
	var p50 [3]float64
	for i := range times {
		slices.Sort(times[i])
		p50[i] = float64(times[i][len(times[i])/2].Nanoseconds()) / 1e6
	}
	b.ReportMetric(p50[0], "ms-direct-p50")
	b.ReportMetric(p50[1], "ms-middleware-p50")
	b.ReportMetric(p50[2], "ms-gateway-p50")
	b.ReportMetric(p50[2]-p50[0], "ms-gateway-adds")
	b.ReportMetric(p50[1]-p50[0], "ms-middleware-adds")
	b.ReportMetric(p50[2]/p50[0], "gateway/direct")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDisconnect is the time from an operator's call to the end of the stream that a client has open through the gateway.
func BenchmarkDisconnect(b *testing.B) {
	_, _, gateway, m := benchFronts(b, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	var times []time.Duration
	for b.Loop() {
		time.Sleep(30 * time.Millisecond) // faster ones are told in batches
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, gateway, nil)
		if err != nil {
			b.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+api.NewSessionID().String())
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		var id api.SessionID
		for s, err := range m.Sessions(b.Context(), testkit.App, client.SessionQuery{Status: "active"}) {
			if err != nil {
				b.Fatal(err)
			}
			id = s.ID
			break
		}
		began, ended := time.Now(), make(chan time.Time, 1)
		go func() {
			_, _ = io.Copy(io.Discard, resp.Body)
			ended <- time.Now()
		}()
		if _, err := m.Disconnect(b.Context(), testkit.App, id, ""); err != nil {
			b.Fatal(err)
		}
		times = append(times, (<-ended).Sub(began))
		_ = resp.Body.Close()
	}
	slices.Sort(times)
	b.ReportMetric(float64(times[len(times)/2].Nanoseconds())/1e6, "ms-p50")
	b.ReportMetric(float64(times[len(times)*99/100].Nanoseconds())/1e6, "ms-p99")
	b.ReportMetric(float64(times[len(times)-1].Nanoseconds())/1e6, "ms-max")
	b.ReportMetric(0, "ns/op")
}
