package server

import (
	"net/http"
	"net/netip"

	"github.com/rollcallhq/rollcall/internal/forwarded"
)

// resolveClient rewrites RemoteAddr to the client's address in canonical form, without a port, so that nothing behind it needs to know
// of proxies or parse it; to 0.0.0.0 for a peer that has none. URL.Scheme becomes the one that the client used.
func resolveClient(trusted []netip.Prefix, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := forwarded.Client(r, trusted)
		if !addr.IsValid() {
			addr = netip.IPv4Unspecified()
		}
		r.URL.Scheme = forwarded.Scheme(r, trusted) // of the peer, so before it is rewritten
		r.RemoteAddr = addr.String()
		next.ServeHTTP(w, r)
	})
}
