package mcp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"time"

	"github.com/rollcallhq/rollcall/internal/forwarded"
)

// ProxyConfig configures NewProxy.
type ProxyConfig struct {
	// Upstream is the server; requests go to its origin with the path that they came with. Its path is not used.
	Upstream *url.URL
	// PreserveHost passes the client's Host header on. Otherwise it is the upstream's, as many servers insist (they refuse a Host that is
	// not theirs, against DNS rebinding), and the client's is in X-Forwarded-Host.
	PreserveHost bool
	// TrustedProxies are the peers whose X-Forwarded headers are passed on; those of others are replaced. nil = none.
	TrustedProxies []netip.Prefix
	Transport      http.RoundTripper // nil = one made for this
	Log            *slog.Logger      // nil = discard
}

// NewProxy returns a handler that passes requests on to a server in another process, and its answers back, as they come: nothing of a
// stream is held back, and a client that does not read slows its server down and nobody else. What is added are X-Forwarded-For,
// -Host and -Proto; what is taken away are the headers of one connection (RFC 9110, section 7.6.1). A server that cannot be reached is 502.
func NewProxy(cfg ProxyConfig) (http.Handler, error) {
	u := cfg.Upstream
	if u == nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("mcp: the upstream must be a URL such as http://127.0.0.1:3000/mcp")
	}
	if cfg.Transport == nil {
		cfg.Transport = proxyTransport()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &httputil.ReverseProxy{
		Rewrite:       cfg.rewrite,
		Transport:     cfg.Transport,
		FlushInterval: -1,
		ErrorLog:      slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if r.Context().Err() == nil {
				cfg.Log.Warn("the MCP server did not answer", "method", r.Method, "path", r.URL.Path, "err", err)
			}
			status := http.StatusBadGateway
			if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
				status = http.StatusRequestEntityTooLarge
			}
			http.Error(w, "the MCP server did not answer", status)
		},
	}, nil
}

func (cfg ProxyConfig) rewrite(p *httputil.ProxyRequest) {
	p.Out.URL.Scheme, p.Out.URL.Host = cfg.Upstream.Scheme, cfg.Upstream.Host
	p.Out.URL.RawQuery = p.In.URL.RawQuery // as it came, even what Go cannot parse
	if !cfg.PreserveHost {
		p.Out.Host = ""
	}
	if forwarded.Trusted(p.In, cfg.TrustedProxies) {
		for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
			if values := p.In.Header[name]; len(values) > 0 {
				p.Out.Header[name] = values
			}
		}
	}
	host, proto := p.Out.Header["X-Forwarded-Host"], p.Out.Header["X-Forwarded-Proto"]
	p.SetXForwarded() // it appends to the first, and overwrites the others
	if host != nil {
		p.Out.Header["X-Forwarded-Host"] = host
	}
	if proto != nil {
		p.Out.Header["X-Forwarded-Proto"] = proto
	}
	if _, has := p.In.Header["User-Agent"]; !has {
		p.Out.Header["User-Agent"] = []string{""} // so that none is made up
	}
}

func proxyTransport() http.RoundTripper {
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // what the client accepts is the client's to say
		MaxIdleConns:          0,
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
	}
}
