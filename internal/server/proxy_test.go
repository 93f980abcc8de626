package server

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestClientAddress(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	for _, tc := range []struct {
		name, peer string
		header     http.Header
		want       string
	}{
		{"no proxy", "203.0.113.9:1234", nil, "203.0.113.9"},
		{"an untrusted peer is not believed", "203.0.113.9:1234", http.Header{"X-Forwarded-For": {"1.2.3.4"}}, "203.0.113.9"},
		{"a trusted one is", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.7"}}, "203.0.113.7"},
		{"what the client sent itself is not", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"1.2.3.4, 203.0.113.7"}}, "203.0.113.7"},
		{"a chain of trusted proxies", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.7, 10.0.0.2"}}, "203.0.113.7"},
		{"several header lines", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.7", "10.0.0.2"}}, "203.0.113.7"},
		{"only proxies", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}}, "10.0.0.3"},
		{"garbage stops the walk", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.7, ?, 10.0.0.2"}}, "10.0.0.2"},
		{"empty", "10.0.0.1:1", http.Header{"X-Forwarded-For": {""}}, "10.0.0.1"},
		{"no header", "10.0.0.1:1", nil, "10.0.0.1"},
		{"Forwarded", "10.0.0.1:1", http.Header{"Forwarded": {`for=192.0.2.60;proto=http, for="[2001:db8::17]:4711"`}}, "2001:db8::17"},
		{"Forwarded, any case", "10.0.0.1:1", http.Header{"Forwarded": {`proto=https;For=192.0.2.60`}}, "192.0.2.60"},
		{"Forwarded, obfuscated", "10.0.0.1:1", http.Header{"Forwarded": {`for=192.0.2.60, for=_hidden`}}, "10.0.0.1"},
		{"Forwarded, unknown", "10.0.0.1:1", http.Header{"Forwarded": {`for=unknown`}}, "10.0.0.1"},
		{"mapped IPv4", "[::ffff:10.0.0.1]:1", http.Header{"X-Forwarded-For": {"::ffff:203.0.113.7"}}, "203.0.113.7"},
		{"IPv6 without a zone", "[fe80::1%eth0]:1", nil, "fe80::1"},
		{"IPv6 proxy", "[::1]:1", http.Header{"X-Forwarded-For": {"2001:db8::1"}}, "2001:db8::1"},
		{"a port", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.7:5555"}}, "203.0.113.7"},
		{"no address", "pipe", http.Header{"X-Forwarded-For": {"203.0.113.7"}}, "0.0.0.0"},
		{"X-Forwarded-For wins", "10.0.0.1:1", http.Header{"X-Forwarded-For": {"203.0.113.7"}, "Forwarded": {"for=1.2.3.4"}}, "203.0.113.7"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = tc.peer
			maps.Copy(r.Header, tc.header)
			var got string
			h := resolveClient(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RemoteAddr }))
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got != tc.want {
				t.Errorf("client address %q, want %s", got, tc.want)
			}
		})
	}
}

func TestClientScheme(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, tc := range []struct {
		name, peer, target string
		header             http.Header
		want               string
	}{
		{"plain", "203.0.113.9:1234", "/", nil, "http"},
		{"TLS here", "203.0.113.9:1234", "https://x/", nil, "https"},
		{"what the request line says is not believed", "203.0.113.9:1234", "/", nil, "http"},
		{"an untrusted peer is not believed", "203.0.113.9:1234", "/", http.Header{"X-Forwarded-Proto": {"https"}}, "http"},
		{"a trusted one is", "10.0.0.1:1", "/", http.Header{"X-Forwarded-Proto": {"https"}}, "https"},
		{"also when it says http", "10.0.0.1:1", "https://x/", http.Header{"X-Forwarded-Proto": {"http"}}, "http"},
		{"a chain", "10.0.0.1:1", "/", http.Header{"X-Forwarded-Proto": {"HTTPS, http"}}, "https"},
		{"Forwarded", "10.0.0.1:1", "/", http.Header{"Forwarded": {`for=192.0.2.60, for=10.0.0.2;proto="https"`}}, "https"},
		{"garbage", "10.0.0.1:1", "/", http.Header{"X-Forwarded-Proto": {"gopher"}}, "http"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, tc.target, nil)
			r.URL.Scheme, r.RemoteAddr = "https", tc.peer
			maps.Copy(r.Header, tc.header)
			var got string
			h := resolveClient(trusted, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Scheme }))
			h.ServeHTTP(httptest.NewRecorder(), r)
			if got != tc.want {
				t.Errorf("scheme %q, want %s", got, tc.want)
			}
		})
	}
}
