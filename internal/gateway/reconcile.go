package gateway

import (
	"context"
	"fmt"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// reconcileAtOnce bounds how many leases one call of Reconcile asks for.
const reconcileAtOnce = 2000

// Reconcile compares leases that this node holds with their records, the next reconcileAtOnce at every call, and lets go of those
// that are another's by now, or have ended elsewhere: a node that stood still, or was cut off from the others, has not heard of it.
// Calls must not overlap.
func (g *Gateway) Reconcile(ctx context.Context) error {
	if len(g.unreconciled) == 0 {
		g.unreconciled = g.heldLeases()
	}
	next := g.unreconciled[:min(reconcileAtOnce, len(g.unreconciled))]
	g.unreconciled = g.unreconciled[len(next):]
	ids := map[api.ApplicationID][]api.SessionID{}
	for _, key := range next {
		ids[key.application] = append(ids[key.application], key.id)
	}
	for app, some := range ids {
		ctx, cancel := context.WithTimeout(ctx, storeTimeout)
		found, err := g.cfg.Records.Get(ctx, app, some)
		cancel()
		for id := range found {
			g.reconcile(found[id])
		}
		if err != nil {
			return fmt.Errorf("compare leases with their records: %w", err)
		}
	}
	return nil
}

func (g *Gateway) heldLeases() []sessionKey {
	g.mu.Lock()
	defer g.mu.Unlock()
	keys := make([]sessionKey, 0, len(g.leases))
	for key := range g.leases {
		if g.live[key] != nil {
			keys = append(keys, key)
		}
	}
	return keys
}

// reconcile brings a lease to what its record says.
func (g *Gateway) reconcile(rec store.Record) {
	switch {
	case rec.Lease == nil:
	case rec.EndedAt == 0:
		g.Superseded(rec.Application, rec.ID, rec.Lease.OwnerEpoch)
	default:
		g.mu.Lock()
		l := g.leases[sessionKey{rec.Application, rec.ID}]
		g.mu.Unlock()
		if l != nil && l.session.end(causeOfRecord(&rec)) {
			g.log.Info("a lease had ended elsewhere", "session", rec.ID, "application", rec.Application, "reason", rec.EndReason)
		}
	}
}

// causeOfRecord returns how the client of a lease is told of an end that is recorded.
func causeOfRecord(rec *store.Record) cause {
	return cause{close: closeCodes[rec.EndReason], text: rec.EndText, reason: rec.EndReason, by: rec.EndedBy, note: rec.EndText}
}

// closeCodes are the codes of the ends that may come to a lease while this node does not hear of them.
var closeCodes = map[api.EndReason]api.CloseCode{
	api.EndDisconnected: api.CloseDisconnected, api.EndRevoked: api.CloseRevoked, api.EndTokenExpired: api.CloseTokenExpired,
	api.EndApplicationPaused: api.CloseApplicationPaused, api.EndApplicationArchived: api.CloseApplicationArchive,
}
