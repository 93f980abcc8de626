package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/mcp"
)

type mcpCmd struct {
	keyFlags
	applicationFlag
	Upstream string `required:"" placeholder:"URL" help:"MCP endpoint of the server, such as http://127.0.0.1:3000/mcp."`
	Listen   string `default:"127.0.0.1:8090" placeholder:"ADDR" help:"Where MCP clients connect, with the path of --upstream; port 0 picks a free one (${default})."`
	TLSCert  string `name:"tls-cert" placeholder:"FILE" help:"PEM certificate chain: serve TLS to MCP clients."`
	TLSKey   string `name:"tls-key" placeholder:"FILE" help:"PEM key of --tls-cert."`

	Serve       bool   `help:"Run a Rollcall server too, with an application and a key for this: --url, --key and --application are not needed, and not read."`
	ServeListen string `default:"127.0.0.1:8080" placeholder:"ADDR" help:"Where that server listens (${default})."`
	Data        string `placeholder:"DIR" help:"That server's data directory to keep; default: a temporary one that is removed."`

	Server         string        `placeholder:"NAME" help:"Names the MCP server among those of the application; the same for gateways in front of the same one; default: --upstream."`
	Lease          time.Duration `default:"${mcpLease}" help:"How long a client may be silent before it leaves the list, 15s to 1h (${default})."`
	OpenWait       time.Duration `default:"${mcpOpenWait}" help:"How long the first answer of a new client waits for Rollcall (${default})."`
	FailClosed     bool          `help:"Refuse new clients while Rollcall does not answer."`
	MaxSessions    int           `default:"${mcpMaxSessions}" help:"Clients known at once (${default})."`
	TrustedProxies []string      `placeholder:"CIDR,…" help:"Peers whose X-Forwarded-For or Forwarded header names the client."`
	PreserveHost   bool          `help:"Pass the clients' Host header on, instead of that of --upstream."`
	Drain          time.Duration `default:"5s" help:"How long a clean stop waits for answers (${default})."`
	LogLevel       string        `enum:"debug,info,warn,error" default:"info" help:"Least severe log lines: ${enum}."`

	Tokens mcpTokenFlags `embed:"" group:"Tokens"`
}

// mcpTokenFlags say how the clients' bearer tokens are verified, and what they are told when one is not good.
type mcpTokenFlags struct {
	JWKSURL             string   `name:"jwks-url" placeholder:"URL" help:"Verify tokens by the keys of their issuer: an address of a JWK Set."`
	HS256Secret         string   `name:"hs256-secret" placeholder:"SECRET" help:"Verify tokens by a secret; best given in the environment."`
	Issuer              string   `placeholder:"ISS" help:"Tokens must have this iss."`
	Audience            string   `placeholder:"AUD" help:"Tokens must have this in aud."`
	RequireToken        bool     `help:"Refuse requests without a token that verifies, instead of leaving them to the MCP server."`
	LoginClaim          string   `default:"sub" help:"Claim that is shown as login (${default})."`
	LicenseClaim        string   `default:"license" help:"Claim that is shown as license (${default})."`
	ResourceMetadata    string   `placeholder:"URL" help:"Where clients that must authorize find out how; default: the well-known address at the gateway, which asks the MCP server."`
	Scope               string   `placeholder:"SCOPES" help:"Scopes that they are told to ask for."`
	AuthorizationServer []string `placeholder:"URL" help:"Answer at that well-known address with this issuer of tokens, for an MCP server that does not."`
}

// Validate refuses what cannot be meant.
func (c mcpCmd) Validate() error {
	u, err := url.Parse(c.Upstream)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("--upstream: %q is not a URL such as http://127.0.0.1:3000/mcp", c.Upstream)
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key go together")
	}
	return within("drain", c.Drain, time.Millisecond, 24*time.Hour)
}

// Run is the gateway until a signal; with --serve, the server as well.
func (c mcpCmd) Run(ctx context.Context, io *stdio) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		return usageError{err}
	}
	log := slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: level}))
	if c.Serve {
		return c.withServer(ctx, io, log)
	}
	if c.Key == "" {
		return missing("there is no API key", "give one with --key or ROLLCALL_KEY, or --serve to run a server of its own")
	}
	_, app, err := c.manageOne(ctx, io, c.applicationFlag)
	if err != nil {
		return err
	}
	return c.gateway(ctx, log, c.URL, c.Key, app, func(at string) {
		fmt.Fprintf(io.out, "MCP clients connect to %s; what they say goes to %s. Ctrl-C ends it.\n", at, c.Upstream)
	})
}

// gateway serves MCP clients until ctx ends. ready is told where.
func (c mcpCmd) gateway(ctx context.Context, log *slog.Logger, at, key string, app api.ApplicationID, ready func(url string)) error {
	upstream, err := url.Parse(c.Upstream)
	if err != nil {
		return usageError{err}
	}
	var trusted []netip.Prefix
	for _, s := range c.TrustedProxies {
		p, err := parsePrefix(s)
		if err != nil {
			return usagef("--trusted-proxies: %q is not an address or a network such as 10.0.0.0/8", s)
		}
		trusted = append(trusted, p)
	}
	name := c.Server
	if name == "" {
		name = c.Upstream
	}
	tracker, err := mcp.New(mcp.Config{
		URL: at, Key: key, Application: app, Server: name, Lease: c.Lease, OpenWait: c.OpenWait, FailClosed: c.FailClosed,
		MaxSessions: c.MaxSessions, TrustedProxies: trusted, Log: log,
		Tokens: mcp.Tokens{
			JWKSURL: c.Tokens.JWKSURL, HS256Secret: c.Tokens.HS256Secret, Issuer: c.Tokens.Issuer, Audience: c.Tokens.Audience,
			Required: c.Tokens.RequireToken, LoginClaim: c.Tokens.LoginClaim, LicenseClaim: c.Tokens.LicenseClaim,
		},
		Challenge: mcp.Challenge{ResourceMetadata: c.Tokens.ResourceMetadata, Scope: c.Tokens.Scope},
	})
	if err != nil {
		return usageError{err}
	}
	proxy, err := mcp.NewProxy(mcp.ProxyConfig{Upstream: upstream, PreserveHost: c.PreserveHost, TrustedProxies: trusted, Log: log})
	if err != nil {
		return usageError{err}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return hinted{fmt.Errorf("listen: %w", err), "give another address with --listen"}
	}
	scheme := "http://"
	if c.TLSCert != "" {
		scheme = "https://"
	}
	defer func() { _ = listener.Close() }()
	ready(scheme + reachable(listener.Addr().String()) + upstream.Path)
	return c.serveClients(ctx, listener, tracker, c.routes(upstream, tracker.Middleware(proxy), proxy))
}

// routes gives the MCP endpoint to tracked, and the rest of the server, such as its OAuth endpoints, to plain.
func (c mcpCmd) routes(upstream *url.URL, tracked, plain http.Handler) http.Handler {
	endpoint := strings.TrimSuffix(upstream.Path, "/")
	metadata := plain
	if len(c.Tokens.AuthorizationServer) > 0 {
		metadata = mcp.ResourceMetadata("", c.Tokens.AuthorizationServer...)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimSuffix(r.URL.Path, "/")
		switch {
		case path == mcp.WellKnown, path == mcp.WellKnown+endpoint:
			metadata.ServeHTTP(w, r)
		case path == endpoint, endpoint == "" && !strings.HasPrefix(path, "/.well-known/"):
			tracked.ServeHTTP(w, r)
		default:
			plain.ServeHTTP(w, r)
		}
	})
}

// serveClients runs the tracker and the listener. When ctx ends, streams that clients can open again elsewhere end at once, and calls
// get --drain to be answered.
func (c mcpCmd) serveClients(ctx context.Context, listener net.Listener, tracker *mcp.Tracker, h http.Handler) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listening := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				rctx, stop := context.WithCancel(r.Context())
				defer stop()
				defer context.AfterFunc(ctx, stop)()
				r = r.WithContext(rctx)
			}
			h.ServeHTTP(w, r)
		}),
	}
	var running sync.WaitGroup
	var trackErr, serveErr error
	tctx, stopTracking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopTracking()
	running.Go(func() { trackErr = tracker.Run(tctx) })
	running.Go(func() {
		if c.TLSCert != "" {
			serveErr = listening.ServeTLS(listener, c.TLSCert, c.TLSKey)
		} else {
			serveErr = listening.Serve(listener)
		}
		cancel()
	})
	<-ctx.Done()
	fresh, done := context.WithTimeout(context.WithoutCancel(ctx), c.Drain)
	defer done()
	if listening.Shutdown(fresh) != nil {
		_ = listening.Close() // what is left has had its time
	}
	stopTracking()
	running.Wait()
	if errors.Is(serveErr, http.ErrServerClosed) {
		serveErr = nil
	}
	return errors.Join(serveErr, trackErr)
}

// withServer is the gateway in front of a Rollcall server of its own.
func (c mcpCmd) withServer(ctx context.Context, io *stdio, log *slog.Logger) error {
	own, err := startOwn(ctx, io, ownConfig{listen: c.ServeListen, data: c.Data, logLevel: c.LogLevel})
	if err != nil {
		return err
	}
	m, err := client.NewManage(client.ManageConfig{URL: own.url, Key: own.key})
	if err == nil {
		_, err = m.Applications(own.ctx) // answered once the server is ready
	}
	if err == nil {
		app := api.MustID[api.Application](demoApplication)
		err = c.gateway(own.ctx, log, own.url, own.key, app, func(at string) { c.printOwn(io, at, own) })
	}
	if own.ctx.Err() != nil {
		err = nil // a signal, or the server's own end, which says why
	}
	return errors.Join(err, own.stop())
}

func (c mcpCmd) printOwn(io *stdio, at string, own *ownServer) {
	self := invokedAs()
	flags := " --url " + own.url + " --key " + own.key + " --application " + demoNumber
	kept := "keeps nothing"
	if c.Data != "" {
		kept = "keeps its data in " + c.Data
	}
	fmt.Fprintf(io.out, `MCP clients connect to

  %s

in place of %s. Rollcall is at %s; Ctrl-C ends both, and it %s.

  %s sessions list%s
  %s sessions watch%s
  %s sessions revoke-all%s

  curl "%s%s/applications/%s/sessions" -H "Authorization: Bearer %s"

`, at, c.Upstream, own.url, kept, self, flags, self, flags, self, flags,
		own.url, api.RoutePrefix, demoApplication, own.key)
}
