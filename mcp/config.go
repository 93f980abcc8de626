package mcp

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// Defaults of Config.
const (
	DefaultLease       = 5 * time.Minute
	DefaultOpenWait    = time.Second
	DefaultMaxSessions = 100_000
)

// Config configures New.
type Config struct {
	URL         string            // of the Rollcall server
	Key         string            // an API key with sessions:create
	Application api.ApplicationID // whose sessions the clients are
	HTTPClient  *http.Client      // for calls of the Rollcall server; nil = http.DefaultClient

	// Server names the MCP server among those that report to the application. Processes that serve the same one give the same name,
	// so that a client which meets several of them is one session. "" is a name too.
	Server string
	// Lease is how long a client may be silent before its session ends, 15 s to an hour; 0 = DefaultLease.
	Lease time.Duration
	// OpenWait bounds how long the first answer of a new session waits for Rollcall; 0 = DefaultOpenWait.
	OpenWait time.Duration
	// FailClosed refuses new sessions (503) that Rollcall has not taken within OpenWait. Those that it has taken go on either way.
	FailClosed bool
	// MaxSessions bounds how many sessions are known at once; the ones that were quiet make room. 0 = DefaultMaxSessions.
	MaxSessions int
	// TrustedProxies are the peers whose X-Forwarded-For or Forwarded header names the client; nil = none.
	TrustedProxies []netip.Prefix
	// Tokens says how bearer tokens are verified; the zero value leaves that to the wrapped handler.
	Tokens Tokens
	// Challenge is what a client is told that must authenticate again.
	Challenge Challenge
	Log       *slog.Logger // nil = discard
}

// Tokens says how bearer tokens are verified: JWTs, by the keys at JWKSURL or by HS256Secret. With neither, tokens are opaque.
type Tokens struct {
	JWKSURL     string // https, or http on loopback and private networks
	HS256Secret string // at least 32 bytes
	Issuer      string // the claim iss must be this; "" = any
	Audience    string // the claim aud must contain this; "" = any
	// Required refuses (401) requests without a token that verifies. Otherwise they are passed on, for the wrapped handler to judge,
	// and tell nothing of who sent them.
	Required     bool
	LoginClaim   string // "" = sub
	LicenseClaim string // "" = license
}

func (t Tokens) verifies() bool { return t.JWKSURL != "" || t.HS256Secret != "" }

// Challenge is the WWW-Authenticate header of a 401 (RFC 6750, section 3; RFC 9728, section 5.1).
type Challenge struct {
	// ResourceMetadata is the URL of the protected resource metadata. "" = the well-known one of the URL that was requested (RFC 9728,
	// section 3.1), which the wrapped handler's process must serve.
	ResourceMetadata string
	Scope            string // the scopes to ask for, separated by spaces; "" = not said
}

// New returns a tracker that knows no session yet. Nothing is sent before Run.
func New(cfg Config) (*Tracker, error) {
	if cfg.Application.IsZero() {
		return nil, errors.New("mcp: Application is missing")
	}
	calls, err := client.NewManage(client.ManageConfig{URL: cfg.URL, Key: cfg.Key, HTTPClient: cfg.HTTPClient})
	if err != nil {
		return nil, fmt.Errorf("mcp: %w", err)
	}
	setDefault(&cfg.Lease, DefaultLease)
	setDefault(&cfg.OpenWait, DefaultOpenWait)
	setDefault(&cfg.MaxSessions, DefaultMaxSessions)
	setDefault(&cfg.Tokens.LoginClaim, "sub")
	setDefault(&cfg.Tokens.LicenseClaim, "license")
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.Lease < api.MinLeaseSeconds*time.Second || cfg.Lease > api.MaxLeaseSeconds*time.Second:
		return nil, fmt.Errorf("mcp: Lease must be from %d s to %d s", api.MinLeaseSeconds, api.MaxLeaseSeconds)
	case cfg.OpenWait < 0 || cfg.MaxSessions < 0:
		return nil, errors.New("mcp: OpenWait and MaxSessions must not be negative")
	case cfg.Tokens.JWKSURL != "" && cfg.Tokens.HS256Secret != "":
		return nil, errors.New("mcp: tokens are verified by JWKSURL or by HS256Secret, not by both")
	case cfg.Tokens.HS256Secret != "" && len(cfg.Tokens.HS256Secret) < minSecret:
		return nil, fmt.Errorf("mcp: HS256Secret must have at least %d bytes", minSecret)
	case cfg.Tokens.Required && !cfg.Tokens.verifies():
		return nil, errors.New("mcp: tokens can only be required when JWKSURL or HS256Secret says how they are verified")
	case strings.ContainsAny(cfg.Challenge.ResourceMetadata+cfg.Challenge.Scope, "\"\\\r\n"):
		return nil, errors.New("mcp: Challenge must not contain quotes, backslashes or line breaks")
	}
	return &Tracker{
		cfg: cfg, calls: calls, verifier: newVerifier(cfg.Tokens, cfg.Log), reporter: "mcp-" + strings.ToLower(rand.Text()[:8]),
		kick: make(chan struct{}, 1), sessions: map[identity]*session{}, ids: map[api.SessionID]*session{},
		denied: newRemembered[string](), deadIDs: newRemembered[string](), turnedAway: newRemembered[identity](),
	}, nil
}

// minSecret is the size of an HS256 key (RFC 7518, section 3.2).
const minSecret = 32

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}
