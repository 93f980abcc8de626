package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// greeting is a hello whose fields are valid.
type greeting struct {
	token, publishableKey, application *string

	clientID, name, hostname, userAgent *string
	clientInfo                          json.RawMessage
}

func readHello(f *frame) (greeting, error) {
	h := greeting{
		token: f.Credential("token"), publishableKey: f.Credential("publishableKey"), application: f.Credential("application"),
		clientID: f.ClientID("clientId"), name: f.Text("name"), hostname: f.Text("hostname"), userAgent: f.Text("userAgent"),
		clientInfo: f.ClientInfo("clientInfo"),
	}
	return h, f.Err()
}

// hello reads the first frame.
func (s *session) hello(f *frame, now time.Time) {
	h, err := readHello(f)
	if err != nil {
		s.end(cause{close: api.CloseBadHello, text: "hello: " + toldError(err).Message, reason: api.EndProtocolError})
		return
	}
	up := s.upgrade
	s.upgrade, s.helloBy = nil, 0
	s.greet(h, up, now, question{})
}

// greet opens the session: verify, check, stage the record, insert the row, wait for the record, welcome. When keys are to be fetched
// first, it comes back to it: a slow issuer takes no place among the hellos in flight.
func (s *session) greet(h greeting, up *upgrade, now time.Time, q question) {
	g := s.gateway
	if !g.beginHello() {
		s.end(crowded())
		return
	}
	defer g.endHello()

	grant, err := g.verify(h, up, q.presented)
	if s.postpone(q, err, func(q question) { s.greet(h, up, now, q) }) {
		return
	}
	if err != nil {
		s.end(refusedFor(err))
		return
	}
	s.fill(h, up, grant, g.now()) // it may have waited for its place since it came
	ticket, err := g.cfg.Records.Stage(s.record)
	if err != nil {
		if !errors.Is(err, store.ErrQueueFull) {
			g.log.Error("a record was not staged", "session", s.record.ID, "err", err)
		}
		s.end(tryAgain("records cannot be written fast enough"))
		return
	}
	if err := s.insert(grant.Application.MaxAuthorized()); err != nil {
		ticket.Discard()
		s.end(refusedFor(err)) // unless that is why
		return
	}
	g.metrics.open(grant.Authorized)
	if err := ticket.Commit(context.Background()); err != nil { // it waits for half a second at most
		g.log.Error("a record was not written", "session", s.record.ID, "err", err)
		c := tryAgain("the session cannot be recorded")
		c.reason = api.EndServerStopped
		s.end(c)
		return
	}
	s.welcome(grant, now)
}

// beginHello takes a place among the hellos in flight, for which it waits as long as a client has for its hello.
func (g *Gateway) beginHello() bool {
	select {
	case g.hellos <- struct{}{}:
		return true
	default:
	}
	g.waiting.Add(1)
	defer g.waiting.Add(-1)
	timer := time.NewTimer(g.limits.HelloTimeout)
	defer timer.Stop()
	select {
	case g.hellos <- struct{}{}:
		return true
	case <-timer.C:
		return false
	case <-g.stopping: // the session has been told
		return false
	}
}

func (g *Gateway) endHello() { <-g.hellos }

// verify judges the hello's credential, and what the credential then says of the rest.
func (g *Gateway) verify(h greeting, up *upgrade, presented time.Time) (tenant.Grant, error) {
	token := h.token
	if token == nil && h.publishableKey == nil { // what the client says in its hello goes before what a proxy may have added
		token = up.bearer
	}
	switch {
	case token == nil && h.publishableKey == nil:
		return tenant.Grant{}, api.Errorf(api.CodeTokenInvalid, "token or publishableKey is required")
	case token != nil && *token == "":
		return tenant.Grant{}, api.Errorf(api.CodeTokenInvalid, "the token is empty")
	case h.publishableKey != nil && *h.publishableKey == "":
		return tenant.Grant{}, api.Errorf(api.CodePublishableKeyInvalid, "the publishable key is empty")
	case h.application != nil && *h.application == "":
		return tenant.Grant{}, api.Errorf(api.CodeApplicationUnknown, "the application is empty")
	}
	grant, err := g.cfg.Tenants.Verify(context.Background(), tenant.Credential{
		Token: orEmpty(token), PublishableKey: orEmpty(h.publishableKey), Application: orEmpty(h.application),
		Presented: presented})
	if err != nil {
		return grant, err
	}
	if grant.ClientID != "" && h.clientID != nil && *h.clientID != grant.ClientID {
		return grant, api.Errorf(api.CodeClientIDMismatch, "clientId is not the one that the token was issued for")
	}
	if !grant.Application.AllowsOrigins(up.origins) {
		return grant, api.Errorf(api.CodeOriginForbidden, "the application does not allow this origin")
	}
	return grant, nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// refusedFor returns how a hello whose credential was refused ends.
func refusedFor(err error) cause {
	c := cause{close: api.CloseCredentialRefused, reason: api.EndProtocolError}
	var told *api.Error
	switch {
	case !errors.As(err, &told):
		return tryAgain("the credential cannot be judged now")
	case told.Code == api.CodeApplicationPaused:
		c.close = api.CloseApplicationPaused
	case told.Code == api.CodeApplicationArchived:
		c.close = api.CloseApplicationArchive
	case told.Code == api.CodeQuotaExceeded:
		c.close = api.CloseQuotaExceeded
	case told.Code == api.CodeUnavailable || told.Code == api.CodeInternal || told.Code == api.CodeConflict:
		return tryAgain("the credential cannot be judged now")
	default:
		c.refusal = told
	}
	return c
}

// tryAgain is 1013: too much at once, come back in 1 to 5 s.
func tryAgain(text string) cause {
	return cause{close: api.CloseTryAgainLater, text: text, reason: api.EndProtocolError,
		retryAfterMs: 1000 + rand.Int64N(4000)}
}

// crowded is the end of a hello that waited too long for its place among those in flight.
func crowded() cause {
	c := tryAgain("too many sessions open at once")
	c.limit = limitHellos
	return c
}

// fill makes the record. Nobody else sees the session yet.
func (s *session) fill(h greeting, up *upgrade, grant tenant.Grant, now api.Millis) {
	id := api.NewSessionID()
	r := store.Record{
		ID: id, ServerID: api.NewServerID(s.gateway.cfg.Node, id), Organization: grant.Application.Organization,
		Application: grant.Application.ID, Incarnation: s.gateway.cfg.Records.Incarnation(), CreatedAt: now, IP: s.record.IP,
		ClientID: id.String(), Login: grant.Login, License: grant.License, Authorized: grant.Authorized,
		TokenExpiresAt: grant.TokenExpiresAt, Name: grant.Name, UserAgent: up.userAgent, ClientInfo: h.clientInfo,
		Hostname: orEmpty(h.hostname), LastActiveAt: now, // what is known of it should a crash be its end
	}
	if grant.ClientID != "" {
		r.ClientID = grant.ClientID
	} else if h.clientID != nil {
		r.ClientID = *h.clientID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h.name != nil && *h.name != "" {
		r.Name, s.named = *h.name, true
	}
	if h.userAgent != nil {
		r.UserAgent = *h.userAgent
	}
	s.record, s.cid, s.credential, s.activeAt = r, grant.ClientID, credentialOf(grant), r.CreatedAt
	s.tokens = appendToken(s.tokens, grant)
	if l := s.lease(); l != nil {
		l.epoch = max(grant.Epoch, grant.Application.Epoch)
		s.noteLeaseLocked()
	}
}

func credentialOf(g tenant.Grant) registry.Credential {
	switch {
	case !g.Authorized:
		return registry.Credential{Kind: registry.CredentialNone}
	case g.Rollcall:
		return registry.Credential{Kind: registry.CredentialRollcall, Epoch: g.Epoch}
	default:
		return registry.Credential{Kind: registry.CredentialForeign, IssuedAt: g.IssuedAt}
	}
}

// appendToken remembers the grant's token.
func appendToken(tokens []store.Denial, g tenant.Grant) []store.Denial {
	d := store.Denial{Application: g.Application.ID, TokenID: g.TokenID, ExpiresAt: g.TokenExpiresAt}
	if g.TokenID == "" || slices.Contains(tokens, d) {
		return tokens
	}
	return append(tokens, d)
}

// insert puts the row into the registry, unless the session was ended meanwhile. The error is what the client is told. Whoever finds
// the row there finds the session too.
func (s *session) insert(maxAuthorized int) error {
	g := s.gateway
	key := sessionKey{s.record.Application, s.record.ID}
	if app, _ := g.cfg.Tenants.Application(key.application); app.StrictRevocation && g.cfg.CutOff != nil && g.cfg.CutOff() {
		return api.Errorf(api.CodeUnavailable, "this node cannot hear of revocations now: try another, or again")
	}
	g.mu.Lock()
	if g.live[key] != nil {
		g.mu.Unlock()
		return api.Errorf(api.CodeConflict, "the application has a session of that id")
	}
	g.live[key] = s
	g.mu.Unlock()
	s.mu.Lock()
	err := error(errEnded())
	if s.told == nil {
		if err = g.cfg.Registry.Insert(s.rowLocked(), maxAuthorized); err != nil {
			err = g.registryError(err)
		}
		s.live = err == nil
	}
	s.mu.Unlock()
	if err != nil {
		g.mu.Lock()
		delete(g.live, key)
		g.mu.Unlock()
	}
	return err
}

func errEnded() *api.Error { return api.Errorf(api.CodeSessionEnded, "the session has ended") }

// registryError says what a refusal of the registry means to a client.
func (g *Gateway) registryError(err error) *api.Error {
	switch {
	case errors.Is(err, registry.ErrRevoked):
		return api.Errorf(api.CodeTokenRevoked, "the token was revoked: authenticate again")
	case errors.Is(err, registry.ErrPaused):
		return api.Errorf(api.CodeApplicationPaused, "the application is paused")
	case errors.Is(err, registry.ErrArchived):
		return api.Errorf(api.CodeApplicationArchived, "the application is archived")
	case errors.Is(err, registry.ErrExists):
		return api.Errorf(api.CodeConflict, "the application has a session of that id")
	case errors.Is(err, registry.ErrQuota):
		return api.Errorf(api.CodeQuotaExceeded, "the plan's authorized sessions are used up")
	}
	g.log.Error("the registry refused a row", "err", err)
	return api.Errorf(api.CodeUnavailable, "try again")
}

// welcome tells the client that the session is open, and starts the clocks.
func (s *session) welcome(grant tenant.Grant, asked time.Time) {
	g := s.gateway
	now := time.Now()
	g.metrics.hello.Observe(now.Sub(asked).Seconds())
	s.open = true
	s.expireAt(grant.TokenExpiresAt, grant.IssuedAt, now)
	g.log.Debug("session opened", "session", s.record.ID, "application", s.record.Application, "authorized", grant.Authorized)
	if l := s.lease(); l != nil { // it is told in the answer
		l.renew(now)
		return
	}
	s.pingAt = momentOf(now.Add(g.pingDelay()))
	s.send(websock.AppendText(nil, encode(api.Welcome{
		Type: api.TypeWelcome, SessionID: s.record.ID, ServerID: s.record.ServerID, Authorized: grant.Authorized,
		TokenExpiresAt: grant.TokenExpiresAt.Timestamp(), PingIntervalMs: g.limits.PingInterval.Milliseconds(),
	})))
}
