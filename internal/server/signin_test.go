package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// TestSignInOverTLS: the cookie is for TLS alone, the page's origin is https, it holds after a restart, and the session protocol knows
// no cookie.
func TestSignInOverTLS(t *testing.T) {
	data := t.TempDir()
	s := testkit.Start(t, testkit.Config{Data: data, TLS: true})
	do := func(method, path, body, cookie, origin string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		for name, value := range map[string]string{"Cookie": cookie, "Origin": origin} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp
	}
	in := do(http.MethodPost, api.SignInPath, `{"key":"rck_0123456789abcdef_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKL"}`, "", s.URL)
	if cookies := in.Cookies(); in.StatusCode != http.StatusOK || len(cookies) != 1 || !cookies[0].Secure {
		t.Fatalf("%d %v", in.StatusCode, in.Header)
	}
	cookie := api.SignInCookie + "=" + in.Cookies()[0].Value
	s.Stop(t)
	s = testkit.Start(t, testkit.Config{Data: data, TLS: true})
	sessions := "/api/v1/applications/" + testkit.App.String() + "/sessions"
	for _, tt := range []struct {
		method, path, origin string
		status               int
	}{
		{http.MethodGet, api.SignInPath, "", http.StatusOK},
		{http.MethodDelete, sessions, s.URL, http.StatusOK},
		{http.MethodDelete, sessions, strings.Replace(s.URL, "https:", "http:", 1), http.StatusForbidden},
		{http.MethodDelete, sessions, "", http.StatusForbidden},
		{http.MethodPost, api.SessionsPath, s.URL, http.StatusUnauthorized},
	} {
		if resp := do(tt.method, tt.path, "", cookie, tt.origin); resp.StatusCode != tt.status {
			t.Errorf("%s %s from %q: %d, want %d", tt.method, tt.path, tt.origin, resp.StatusCode, tt.status)
		}
	}
}

// TestDashboardIsServed: the page and nothing else of it at the paths that are its own; everything else answers as before.
func TestDashboardIsServed(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	for path, want := range map[string]string{"/": "text/html", "/audit": "text/html", "/applications/123456789": "text/html", "/favicon.ico": "image/svg",
		"/nosuch": "application/json", "/api/v1/nosuch": "application/json", "/api/v1/applications/x": "application/json", "//": "application/json",
		"/openapi.yaml": "text/yaml"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %d %s, want %s", path, resp.StatusCode, got, want)
		}
	}
}
