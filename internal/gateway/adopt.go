package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// storeTimeout bounds what a request waits for the database.
const storeTimeout = 5 * time.Second

// goneError says that a session has ended, and how; it is the answer of 410.
type goneError struct {
	reason api.EndReason
	text   string // the operator's
}

// Error describes the end.
func (e *goneError) Error() string {
	if e.text != "" {
		return "the session has ended: " + e.text
	}
	return "the session has ended: " + string(e.reason)
}

func goneOf(rec *store.Record) error { return &goneError{rec.EndReason, rec.EndText} }

// belongs tells whether a credential of its application is a session's: one that it has presented, or another of the same client
// under the rule of authorize. An unauthorized session is anybody's who knows its id.
func belongs(grant *tenant.Grant, rec *store.Record) bool {
	return !rec.Authorized || grant.Authorized && (rec.Login == grant.Login && rec.Lease.CID == grant.ClientID) || presented(grant, rec)
}

// presented tells whether the session has presented the grant's token before.
func presented(grant *tenant.Grant, rec *store.Record) bool {
	return slices.ContainsFunc(rec.Lease.Tokens, func(d store.Denial) bool { return d.TokenID == grant.TokenID })
}

// reserve returns the lease of that key with its turn: one that is known here, or a new one (fresh), which must be kept or dropped.
func (g *Gateway) reserve(ctx context.Context, key sessionKey) (l *lease, fresh bool, err error) {
	for {
		g.mu.Lock()
		l = g.leases[key]
		g.mu.Unlock()
		if l == nil {
			if l, fresh, err = g.reserveNew(key); fresh || err != nil {
				return l, fresh, err
			}
		}
		if err := l.take(ctx); err != nil {
			return nil, false, err
		}
		if _, gone := l.state(); !gone {
			return l, false, nil
		}
		l.give()
	}
}

// reserveNew returns another's lease when that came first.
func (g *Gateway) reserveNew(key sessionKey) (l *lease, fresh bool, err error) {
	if err := g.roomForLease(); err != nil {
		return nil, false, err
	}
	mine := g.newLease("", 0)
	mine.session.record.Application, mine.session.record.ID = key.application, key.id
	g.mu.Lock()
	defer g.mu.Unlock()
	if l := g.leases[key]; l != nil {
		return l, false, nil
	}
	g.leases[key] = mine
	return mine, true, nil
}

// ended returns how a lease that is not held any more ended: an error for whoever asks.
func (l *lease) ended() error {
	switch over, gone := l.state(); {
	case over != nil:
		return goneOf(&over.record)
	case gone:
		return unavailable("the session is moving to another node: try again")
	}
	return nil
}

// readRecord reads the record of a lease that this node does not hold.
func (g *Gateway) readRecord(ctx context.Context, key sessionKey) (*store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	found, err := g.cfg.Records.Get(ctx, key.application, []api.SessionID{key.id})
	rec, ok := found[key.id]
	switch {
	case ok && rec.Lease != nil:
		return &rec, nil
	case ok || err == nil:
		return nil, errNoSession()
	default:
		g.log.Warn("a lease could not be read", "session", key.id, "err", err)
		return nil, unavailable("the session is not held here, and the database that knows it does not answer: try again")
	}
}

// notFound says that neither the database nor any node that answers knows a session. One that was opened while the database was away is known to its
// node alone (G9).
func (g *Gateway) notFound() *api.Error {
	if g.elsewhere.Missing() {
		return unavailable("the session may be held by a node that cannot be reached: try again")
	}
	return errNoSession()
}

func errNoSession() *api.Error {
	return api.Errorf(api.CodeSessionNotFound, "there is no such session")
}

// adoptAll makes this node the owner of open leases, and returns those that it got, as they are then.
func (g *Gateway) adoptAll(ctx context.Context, leases []store.Record) ([]store.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	adopted, err := g.cfg.Records.Adopt(ctx, leases)
	if err != nil {
		g.log.Warn("leases could not be adopted", "leases", len(leases), "err", err)
		return nil, unavailable("the session is not held here, and the database does not answer: try again")
	}
	return adopted, nil
}

// overdueCause says why a lease that nobody held must end now that somebody asks for it: what would have ended it had it been held
// (G4). ok is false when it may go on.
func (g *Gateway) overdueCause(rec *store.Record, now api.Millis) (c cause, at api.Millis, ok bool) {
	app, known := g.cfg.Tenants.Application(rec.Application)
	switch {
	case !known:
		return cause{reason: api.EndApplicationArchived}, now, true
	case app.State != api.ApplicationActive:
		return causeOf(app), now, true
	case rec.Lease.Epoch < app.Epoch:
		return causeOf(app), app.RevokedAt, true
	}
	if end := rec.TokenExpiresAt.Add(g.limits.ExpiryGrace); rec.TokenExpiresAt != 0 && end <= now {
		return cause{reason: api.EndTokenExpired}, end, true
	}
	return cause{}, 0, false
}

// endRecord ends the record of an adopted lease that may not go on, and returns what its client is told.
func (g *Gateway) endRecord(rec store.Record, c cause, at api.Millis) error {
	rec.EndedAt, rec.EndReason = max(at, rec.CreatedAt, 1), c.reason
	rec.EndedBy, rec.EndText = c.by, c.note
	var denied []store.Denial
	if c.deny {
		if denied = denials(rec.Lease.Tokens, g.now()); len(denied) > 0 {
			g.cfg.Tenants.Deny(denied)
		}
	}
	g.cfg.Records.End(rec, denied...)
	g.metrics.ended.WithLabelValues(string(c.reason)).Inc()
	return goneOf(&rec)
}

// revive holds an adopted lease on this node, as one that was opened here, unless it may not go on; with the turn. The error is what
// its client is told.
func (l *lease) revive(rec store.Record) error {
	g, s, now := l.session.gateway, l.session, time.Now()
	if c, at, over := g.overdueCause(&rec, g.now()); over {
		return g.endRecord(rec, c, at)
	}
	l.seconds, l.epoch, l.owner, l.found = rec.Lease.Seconds, rec.Lease.Epoch, rec.Lease.OwnerEpoch, rec.Lease.FoundSince
	l.reportBy(rec.Lease.Reporter)
	s.mu.Lock()
	s.record, s.cid, s.named, s.activeAt = rec, rec.Lease.CID, rec.Lease.Named, rec.LastActiveAt
	s.tokens = slices.Clone(rec.Lease.Tokens)
	// It came in under that epoch, whatever it presented: should the epoch rise at this moment, it is refused at the door or
	// collected inside.
	s.credential = registry.Credential{Kind: registry.CredentialRollcall, Epoch: rec.Lease.Epoch}
	s.mu.Unlock()
	if err := s.insert(registry.Unlimited); err != nil { // it was within the quota when it came, and evicts nobody
		if c, at, over := g.overdueCause(&rec, g.now()); over {
			return g.endRecord(rec, c, at)
		}
		g.log.Warn("an adopted lease could not be held", "session", rec.ID, "err", err)
		return unavailable("the session cannot be held now: try again")
	}
	s.open = true
	s.expireAt(rec.TokenExpiresAt, 0, now)
	l.renew(now)
	g.metrics.adopted.Inc()
	g.log.Debug("session adopted", "session", rec.ID, "application", rec.Application, "epoch", rec.Lease.OwnerEpoch)
	return g.keep(l)
}

// adopt takes over the open lease of a record; with the turn of the reserved lease.
func (l *lease) adopt(ctx context.Context, rec *store.Record) error {
	adopted, err := l.session.gateway.adoptAll(ctx, []store.Record{*rec})
	if err != nil {
		return err
	}
	if len(adopted) == 0 {
		return unavailable("the session is held by another node: try again")
	}
	return l.revive(adopted[0])
}
