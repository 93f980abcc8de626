package mcp

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/forwarded"
)

// Headers of the protocol (2025-11-25, basic/transports), and the one for what it has no field for.
const (
	headerSession  = "Mcp-Session-Id"
	headerHostname = "X-Client-Hostname"
)

// caller is who sent a request, as far as the request says.
type caller struct {
	addr       netip.Addr
	principal  string // what a session stays with
	credential string // what is denied; "" without a token
	issuedAt   time.Time
	verified   bool
	login      string
	license    string
}

// identify reads the credential. The refusal is for one that is required and does not verify.
func (t *Tracker) identify(r *http.Request) (caller, *refusal) {
	c := caller{addr: forwarded.Client(r, t.cfg.TrustedProxies)}
	if !c.addr.IsValid() {
		c.addr = netip.IPv4Unspecified()
	}
	token := r.Header.Get("Authorization")
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	if token == "" {
		c.principal = "addr " + c.addr.String()
		if t.cfg.Tokens.Required {
			return c, refuseNoToken
		}
		return c, nil
	}
	c.credential = credentialID(token)
	c.principal = "token " + hash(token)
	if !t.cfg.Tokens.verifies() {
		return c, nil
	}
	claims, err := t.verifier.verify(r.Context(), token)
	switch {
	case err == nil:
		c.verified, c.issuedAt, c.login, c.license = true, claims.issuedAt, claims.login, claims.license
		if claims.principal != "" {
			c.principal = "jwt " + claims.principal
		}
	case t.cfg.Tokens.Required:
		return c, refuseToken
	}
	return c, nil
}

// credentialID names a token for denials. Of a JWT it is the hash of what is signed, for a signature has more than one valid form.
// It says nothing of who presented it: the signature may be anybody's.
func credentialID(token string) string {
	if head, payload, ok := strings.Cut(token, "."); ok {
		if payload, _, ok := strings.Cut(payload, "."); ok {
			token = head + "." + payload
		}
	}
	return "sha256:" + hash(token)
}

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

// ambiguous tells whether two readers of the request could disagree on who sent it: these headers have one value, and are not of this
// connection alone, which would have a proxy remove them (RFC 9110, section 7.6.1).
func ambiguous(h http.Header) bool {
	if len(h.Values("Authorization")) > 1 || len(h.Values(headerSession)) > 1 {
		return true
	}
	for _, line := range h.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			switch textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(option)) {
			case "Authorization", headerSession:
				return true
			}
		}
	}
	return false
}

// identity is what makes two requests ones of the same session.
type identity [sha256.Size]byte

// identify gives the session of the parts that make it, each of any content.
func (t *Tracker) identityOf(parts ...string) identity {
	h := sha256.New()
	for _, part := range append([]string{"rollcall mcp 1", t.cfg.Application.String(), t.cfg.Server}, parts...) {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	return identity(h.Sum(nil))
}

// transportIdentity is that of a session with an Mcp-Session-Id.
func (t *Tracker) transportIdentity(c caller, id string) identity {
	return t.identityOf("id", c.principal, id)
}

// clientIdentity is that of a session without one.
func (t *Tracker) clientIdentity(c caller, m message, userAgent string) identity {
	if im := readImplementation(m.clientInfo); m.modern && im.Name != "" {
		return t.identityOf("client", c.principal, im.Name, im.Version, c.addr.String())
	}
	return t.identityOf("agent", c.principal, userAgent, c.addr.String())
}

// describe returns what is shown of a session that the request opens.
func describe(c caller, authorized bool, m message, h http.Header) api.LeaseItem {
	im := readImplementation(m.clientInfo)
	hostname := im.Hostname
	if hostname == "" {
		hostname = h.Get(headerHostname)
	}
	return api.LeaseItem{
		Op: api.LeaseOpen, IPAddress: c.addr.String(), Login: clip(c.login), License: clip(c.license), ClientID: clientID(im.Name),
		Authorized:   authorized,
		CredentialID: c.credential, Hostname: clip(hostname), UserAgent: clip(h.Get("User-Agent")), ClientInfo: shownInfo(m.clientInfo),
	}
}

// clientID returns a client's name as its id, which lists show and search; "" when Rollcall would not take it.
func clientID(name string) string {
	n := utf8.RuneCountInString(name)
	if n < api.MinClientID || n > api.MaxClientID || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return ""
	}
	return name
}

// clip makes a text one that Rollcall takes: valid UTF-8 of at most 256 bytes.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) > api.MaxString {
		s = strings.ToValidUTF8(s[:api.MaxString], "")
	}
	return s
}

// verifyWait bounds how long a request waits for the keys of an issuer that is asked for the first time.
const verifyWait = 5 * time.Second

func (v *verifier) verify(ctx context.Context, token string) (claims, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	return v.judge(ctx, token, time.Now())
}
