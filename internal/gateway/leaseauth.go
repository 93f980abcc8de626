package gateway

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// credentials reads what every request for a session has.
func (c *leaseCall) credentials() (bearer string, id api.SessionID, err error) {
	if bearer, err = c.bearer(); err != nil {
		return "", id, err
	}
	if id, err = api.ParseID[api.Session](c.r.PathValue("sessionId")); err != nil {
		return "", id, api.Errorf(api.CodeValidation, "sessionId must be a UUID")
	}
	return bearer, id, nil
}

// hold returns the open lease of that id with its turn, adopted if need be, when the credential is its own; errAnswered says that the
// node that holds it has answered the request. The grant is the
// credential's; it may be one that an operator has denied since the session presented it, with which the session stays (page 3).
func (c *leaseCall) hold(bearer string, id api.SessionID) (*lease, *tenant.Grant, error) {
	ctx := context.WithoutCancel(c.r.Context()) // half a step must not be left
	grant, denied, err := c.judgeBearer(ctx, bearer, id)
	if err != nil {
		return nil, nil, err
	}
	key := sessionKey{grant.Application.ID, id}
	if err := c.holder(ctx, key); err != nil {
		return nil, nil, err
	}
	l, fresh, err := c.reserve(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	if fresh && c.passed != nil {
		err = c.notHeld(ctx)
	} else if fresh {
		err = c.adoptFor(ctx, l, &grant, denied)
	} else {
		err = l.admits(&grant, denied)
	}
	if err != nil {
		if fresh {
			c.dropLease(l)
		}
		l.give()
		return nil, nil, err
	}
	return l, &grant, nil
}

// judgeBearer judges a credential for the session of that id. denied says why the grant is good for nothing new, though authentic.
func (c *leaseCall) judgeBearer(ctx context.Context, bearer string, id api.SessionID) (grant tenant.Grant, denied, err error) {
	credential := tenant.Credential{Token: bearer}
	if isPublishable(bearer) {
		credential = tenant.Credential{PublishableKey: bearer}
	}
	grant, err = c.verifyWaiting(ctx, credential)
	if api.CodeOf(err) == api.CodeApplicationUnknown { // it names none: the session does
		app, ferr := c.applicationOf(ctx, id)
		if ferr != nil {
			return grant, nil, ferr
		}
		credential.Application = app.String()
		grant, err = c.verifyWaiting(ctx, credential)
	}
	if err == nil {
		return grant, nil, nil
	}
	if slices.Contains(authentic, api.CodeOf(err)) {
		return grant, err, nil
	}
	if _, told := errors.AsType[*api.Error](err); !told {
		c.log.Error("a token was not judged", "err", err)
		err = unavailable("the token cannot be judged now: try again")
	}
	return grant, nil, err
}

// authentic are the refusals of credentials that are what they say, and good for nothing new.
var authentic = []api.Code{api.CodeTokenExpired, api.CodeTokenRevoked, api.CodeApplicationPaused, api.CodeApplicationArchived}

// verifyWaiting judges a credential, and waits for the keys of its issuer where they are to be fetched.
func (c *leaseCall) verifyWaiting(ctx context.Context, credential tenant.Credential) (tenant.Grant, error) {
	by := c.now.Add(keysWait)
	for {
		grant, err := c.cfg.Tenants.Verify(ctx, credential)
		pending, ok := errors.AsType[*tenant.KeysPending](err)
		if !ok || !time.Now().Before(by) {
			return grant, err
		}
		credential.Presented = pending.Since
		(&postponed{question: question{by: by}, fetched: pending.Done}).await(c.stopping)
		select {
		case <-c.stopping:
			return grant, drainingError()
		default:
		}
	}
}

// applicationOf finds the application of a lease that its client holds itself.
func (c *leaseCall) applicationOf(ctx context.Context, id api.SessionID) (app api.ApplicationID, err error) {
	c.mu.Lock()
	l := c.own[id]
	c.mu.Unlock()
	if l != nil {
		return l.key().application, nil
	}
	if !c.beginHello() { // shared with hellos, so that ids cannot be guessed by the thousand
		return app, unavailable("too much at once: try again")
	}
	defer c.endHello()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	app, err = c.cfg.Records.FindLease(ctx, id)
	switch {
	case err != nil:
		c.log.Warn("a lease could not be found", "session", id, "err", err)
		return app, unavailable("the session is not held here, and the database that knows it does not answer: try again")
	case !app.IsZero():
		return app, nil
	case c.passed != nil:
		return app, c.notHeld(ctx)
	}
	if err := c.anyHolder(ctx); !errors.Is(err, errNotHeld) {
		return app, err
	}
	return app, c.notFound()
}

// admits tells whether a credential is the lease's and the lease is open; with the turn.
func (l *lease) admits(grant *tenant.Grant, denied error) error {
	s := l.session
	s.mu.Lock()
	rec := s.record
	s.mu.Unlock()
	return admits(&rec, grant, denied, l.endedOr(nil))
}

// admits tells whether a credential is that of a session: its end, if there is one, is told to its client alone.
func admits(rec *store.Record, grant *tenant.Grant, denied, ended error) error {
	switch {
	case rec.Lease == nil || rec.Lease.Reporter != "": // those who report a session have API keys
		return errNoSession()
	case !belongs(grant, rec):
		return api.Errorf(api.CodeTokenMismatch, "the credential is not one of the session's")
	case ended != nil:
		return ended
	case api.CodeOf(denied) == api.CodeTokenRevoked && presented(grant, rec):
		return nil // another session's end denied it: this one stays
	default:
		return denied
	}
}

// adoptFor takes over a lease for its client, when nothing speaks against it.
func (c *leaseCall) adoptFor(ctx context.Context, l *lease, grant *tenant.Grant, denied error) error {
	if !c.beginHello() {
		return unavailable("too many sessions open at once")
	}
	defer c.endHello()
	rec, err := c.readRecord(ctx, l.key())
	if api.CodeOf(err) == api.CodeSessionNotFound {
		if err := c.anyHolder(ctx); !errors.Is(err, errNotHeld) {
			return err
		}
		if rec, err = c.readRecord(ctx, l.key()); api.CodeOf(err) == api.CodeSessionNotFound {
			return c.notFound()
		}
	}
	if err != nil {
		return err
	}
	if err := c.holderOf(ctx, rec); err != nil {
		return err
	}
	var ended error
	if rec.EndedAt != 0 {
		ended = goneOf(rec)
	}
	if _, _, over := c.overdueCause(rec, c.Gateway.now()); over && ended == nil && belongs(grant, rec) {
		return l.adopt(ctx, rec) // which ends it
	}
	if err := admits(rec, grant, denied, ended); err != nil {
		return err
	}
	return l.adopt(ctx, rec)
}
