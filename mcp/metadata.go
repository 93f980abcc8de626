package mcp

import (
	"encoding/json"
	"net/http"
)

// ResourceMetadata returns a handler that answers with the protected resource metadata of a server that has none of its own (RFC 9728,
// section 2): who issues tokens for it. Mount it at WellKnown, and at WellKnown with the path of the MCP endpoint behind it.
// resource is the endpoint's URL as clients know it; "" = that of the request.
func ResourceMetadata(resource string, authorizationServers ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*") // it is public, and clients in browsers read it
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		body := struct {
			Resource               string   `json:"resource"`
			AuthorizationServers   []string `json:"authorization_servers"`
			BearerMethodsSupported []string `json:"bearer_methods_supported"`
		}{resource, authorizationServers, []string{"header"}}
		if resource == "" {
			body.Resource = origin(r) + r.URL.EscapedPath()[min(len(WellKnown), len(r.URL.EscapedPath())):]
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(body) // the client may be gone
	})
}
