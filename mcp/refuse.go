package mcp

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/rollcallhq/rollcall/api"
)

// refusal is an answer that a client gets in place of the handler's. The bodies are plain text: a JSON-RPC error would be taken for
// the answer to the call, and hide from some clients that they have to authenticate or initialize again.
type refusal struct {
	status     int
	code       string // the error of a challenge (RFC 6750, section 3.1); "" = none is said
	text       string
	retryAfter int // seconds; 0 = not said
	rpcCode    int // of the error that answers a call whose stream is open: that of Rollcall's disconnect frame; 0 = there is none
}

var (
	refuseNoToken = &refusal{status: http.StatusUnauthorized, text: "authorization is required"}
	refuseToken   = &refusal{status: http.StatusUnauthorized, code: "invalid_token", text: "the token is not valid"}
	// refuseRevoked is for a credential that an operator has cut off (specification 2026-07-28, basic/authorization, "Token Handling").
	refuseRevoked = &refusal{status: http.StatusUnauthorized, code: "invalid_token", rpcCode: int(api.CloseDisconnected),
		text: "the session was ended by an operator: authorize again"}
	// refuseSession makes a client initialize again (specification 2025-11-25, basic/transports, "Session Management", 3 and 4).
	refuseSession   = &refusal{status: http.StatusNotFound, text: "session not found: it was ended", rpcCode: int(api.CloseDisconnected)}
	refuseAmbiguous = &refusal{status: http.StatusBadRequest, text: "Authorization and Mcp-Session-Id must be given once, to all on the way"}
	refuseQuota     = &refusal{status: http.StatusTooManyRequests, text: "too many sessions are open", retryAfter: 5}
	refusePaused    = &refusal{status: http.StatusForbidden, text: "the application takes no sessions now",
		rpcCode: int(api.CloseApplicationPaused)}
	refuseUnsure = &refusal{status: http.StatusServiceUnavailable, text: "sessions cannot be opened now", retryAfter: 5}
)

// write answers with the refusal.
func (f *refusal) write(w http.ResponseWriter, r *http.Request, c Challenge) {
	h := w.Header()
	clear(h)
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Length", strconv.Itoa(len(f.text)+1))
	if f.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", f.challenge(r, c))
	}
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(f.retryAfter))
	}
	w.WriteHeader(f.status)
	_, _ = io.WriteString(w, f.text+"\n") //nolint:gosec // plain text by its type, and nosniff; the client may be gone
}

// event answers a call in the stream that its answer was to come in, so that the client does not wait for it: some clients take the
// end of a stream for a pause (2025-11-25, basic/transports, "Sending Messages to the Server", 6). The code is outside of the ranges
// that JSON-RPC and MCP reserve.
func (f *refusal) event(id json.RawMessage) []byte {
	text, _ := json.Marshal(f.text) // a string always can be
	return fmt.Appendf(nil, "event: message\ndata: {\"jsonrpc\":\"2.0\",\"id\":%s,\"error\":{\"code\":%d,\"message\":%s}}\n\n", id, f.rpcCode, text)
}

// challenge is the value of WWW-Authenticate (RFC 6750, section 3; RFC 9728, section 5.1).
func (f *refusal) challenge(r *http.Request, c Challenge) string {
	metadata := c.ResourceMetadata
	if metadata == "" {
		metadata = wellKnown(r)
	}
	params := []string{`resource_metadata="` + metadata + `"`}
	if c.Scope != "" {
		params = append(params, `scope="`+c.Scope+`"`)
	}
	if f.code != "" {
		params = append([]string{`error="` + f.code + `"`, `error_description="` + f.text + `"`}, params...)
	}
	return "Bearer " + strings.Join(params, ", ")
}

// WellKnown is the path below which protected resource metadata are found (RFC 9728, section 3).
const WellKnown = "/.well-known/oauth-protected-resource"

// wellKnown returns the metadata URL of the resource that was requested (RFC 9728, section 3.1).
func wellKnown(r *http.Request) string {
	path := r.URL.EscapedPath() // no quotes
	if path == "/" {
		path = ""
	}
	return origin(r) + WellKnown + path
}

// origin returns what stands before the path in the URL that the client used.
func origin(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https") {
		scheme = "https"
	}
	return scheme + "://" + quotable(r.Host)
}

// quotable removes what would end a quoted string; a host name has none of it.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f || r == '"' || r == '\\' {
			return -1
		}
		return r
	}, s)
}
