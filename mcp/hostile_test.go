package mcp_test

import (
	"io"
	"net/http"
	"strings"
)

const (
	legacyInit = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},` +
		`"clientInfo":{"name":"raw-client","version":"3"}}}`
	legacyTools = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
)

// post sends tools/list with a token and an Mcp-Session-Id, both optional, and returns the status and the challenge.
func (f *fixture) post(token, id string) (status int, challenge string) {
	f.t.Helper()
	r := f.request(http.MethodPost, legacyTools, token, id)
	return r.StatusCode, r.Header.Get("WWW-Authenticate")
}

// request sends one request and reads the answer to its end.
func (f *fixture) request(method, body, token, id string, headers ...string) *http.Response {
	f.t.Helper()
	r, err := http.NewRequestWithContext(f.t.Context(), method, f.gateway, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if id != "" {
		r.Header.Set("Mcp-Session-Id", id)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		f.t.Fatal(err)
	}
	return resp
}
