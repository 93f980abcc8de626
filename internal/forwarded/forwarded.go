// Package forwarded finds the client of an HTTP request behind trusted proxies. It owns which headers are believed, and from whom.
package forwarded

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Client returns the address of the client that sent the request, without port or zone; invalid for a peer that has none.
// Headers are believed only from trusted peers, and are read from the right: the last address that is not a trusted proxy is the
// client. X-Forwarded-For wins over Forwarded (RFC 7239) when a request has both, for most proxies set only the former; a proxy
// must remove the one that it does not set.
func Client(r *http.Request, trusted []netip.Prefix) netip.Addr {
	addr := parseAddr(r.RemoteAddr)
	if !Trusted(r, trusted) {
		return addr
	}
	for _, hop := range slices.Backward(hops(r.Header, "X-Forwarded-For", "for")) {
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

// Scheme returns the scheme that the client used, "https" or "http": the first that the hops told, by X-Forwarded-Proto or Forwarded of
// a trusted peer, or else this connection's. A client that lies to its proxies about it only spoils its own sign-in.
func Scheme(r *http.Request, trusted []netip.Prefix) string {
	if Trusted(r, trusted) {
		for _, hop := range hops(r.Header, "X-Forwarded-Proto", "proto") {
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

// hops returns what the hops said of themselves, the client's first: in a header of its own, or as a parameter of Forwarded.
func hops(h http.Header, header, param string) []string {
	if values := h.Values(header); len(values) > 0 {
		return strings.Split(strings.Join(values, ","), ",")
	}
	var told []string
	for element := range strings.SplitSeq(strings.Join(h.Values("Forwarded"), ","), ",") {
		hop := ""
		for pair := range strings.SplitSeq(element, ";") {
			if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok && strings.EqualFold(name, param) {
				hop = strings.Trim(value, `"`)
			}
		}
		told = append(told, hop)
	}
	return told
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

// Trusted tells whether the request's peer is a trusted proxy.
func Trusted(r *http.Request, trusted []netip.Prefix) bool {
	return contains(trusted, parseAddr(r.RemoteAddr))
}
