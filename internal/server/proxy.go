package server

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// resolveClient rewrites RemoteAddr to the client's address in canonical form, without a port, so that nothing behind it needs to know
// of proxies or parse it; to 0.0.0.0 for a peer that has none.
// Headers are believed only from trusted peers, and are read from the right: the last address that is not a trusted proxy is the
// client. X-Forwarded-For wins over Forwarded (RFC 7239) when a request has both, for most proxies set only the former; a proxy
// must remove the one that it does not set. URL.Scheme becomes the one that the client used, by X-Forwarded-Proto or Forwarded of a
// trusted peer or else by this connection: "https" or "http".
func resolveClient(trusted []netip.Prefix, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addr := clientAddr(r, trusted)
		if !addr.IsValid() {
			addr = netip.IPv4Unspecified()
		}
		r.URL.Scheme = clientScheme(r, trusted) // of the peer, so before it is rewritten
		r.RemoteAddr = addr.String()
		next.ServeHTTP(w, r)
	})
}

func clientAddr(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	if !contains(trusted, addr) {
		return addr
	}
	hops := forwarded(r.Header, "X-Forwarded-For", "for")
	for _, hop := range slices.Backward(hops) {
		hop := parseAddr(hop)
		if !hop.IsValid() {
			return addr // "unknown", an obfuscated name or garbage: nothing before it can be believed
		}
		addr = hop
		if !contains(trusted, addr) {
			return addr
		}
	}
	return addr
}

// clientScheme is the first that the hops told. A client that lies to its proxies about it only spoils its own sign-in.
func clientScheme(r *http.Request, trusted []netip.Prefix) string {
	if contains(trusted, parseAddr(r.RemoteAddr)) {
		for _, hop := range forwarded(r.Header, "X-Forwarded-Proto", "proto") {
			switch hop = strings.ToLower(strings.TrimSpace(hop)); hop {
			case "http", "https":
				return hop
			}
		}
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// forwarded returns what the hops said of themselves, the client's first: in a header of its own, or as a parameter of Forwarded.
func forwarded(h http.Header, header, param string) []string {
	if values := h.Values(header); len(values) > 0 {
		return strings.Split(strings.Join(values, ","), ",")
	}
	var hops []string
	for element := range strings.SplitSeq(strings.Join(h.Values("Forwarded"), ","), ",") {
		hop := ""
		for pair := range strings.SplitSeq(element, ";") {
			if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && strings.EqualFold(name, param) {
				hop = strings.Trim(value, `"`)
			}
		}
		hops = append(hops, hop)
	}
	return hops
}

// parseAddr reads an address with or without a port, brackets or a zone; invalid when it is none.
func parseAddr(s string) netip.Addr {
	s = strings.TrimSpace(s)
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap().WithZone("")
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
