package manage

import (
	"context"
	"net/http"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// now is the node's clock.
func (a *API) now() api.Millis { return a.tenants.Now() }

// keptSince returns since when sessions must have ended to be shown: the plan's retention holds also before they are deleted.
func keptSince(app tenant.Application, at api.Millis) api.Millis {
	return at.Add(-time.Duration(app.Plan.HistoryRetention))
}

// listSessions is GET /applications/{applicationId}/sessions.
func (c *call) listSessions() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	q := listing{limit: p.integer("limit", api.DefaultLimit, api.MaxLimit)}
	status := p.choice("status", "active", "inactive", "all")
	if p.boolean("includeInactive") && status == "" {
		status = "all"
	}
	if cursor, ok := p.single("cursor"); ok {
		at, valid := decodeCursor(id, cursor)
		if !valid {
			p.fail("cursor must be a nextCursor of this list, as it was given")
		}
		q.after = &at
	}
	details := p.boolean("details")
	q.ends = store.EndFilter{Since: p.time("endedAfter"), Before: p.time("endedBefore"),
		Reasons: choices(p, "endReason", api.EndReasons)}
	q.ends.Narrow = q.ends.Since != 0 || q.ends.Before != 0 || q.ends.Reasons != nil
	if q.ends.Narrow && status != "inactive" && status != "all" {
		p.fail("endedAfter, endedBefore and endReason are for sessions that have ended: give status=inactive or status=all too")
	}
	if p.err != nil {
		return p.err
	}
	app, err := c.application(api.ScopeSessionsRead, id.String())
	if err != nil {
		return err
	}
	switch {
	case q.ends.Narrow:
		q.ended = true
	case status == "inactive":
		q.rows, q.live, q.ended = true, registry.RangeExpired, true
	case status == "all":
		q.rows, q.live, q.ended = true, registry.RangeAll, true
	default:
		q.rows, q.live = true, registry.RangeCurrent
	}
	at := c.now()
	q.ends.Since = max(q.ends.Since, keptSince(app, at))
	c.partialNodes() // before the rows are read: what comes meanwhile only makes the answer better
	sessions, more, err := c.read(c.r.Context(), id, q, at)
	if err != nil {
		c.partialStore(err)
	}
	reply := api.SessionList{Items: make([]api.Session, 0, len(sessions))}
	for i := range sessions {
		reply.Items = append(reply.Items, sessions[i].show(app, at, details))
	}
	if more {
		reply.NextCursor = encodeCursor(id, sessions[len(sessions)-1].position())
	}
	return c.json(http.StatusOK, reply)
}

// getSession is GET /applications/{applicationId}/sessions/{sessionId}.
func (c *call) getSession() error {
	p := readParams(c.r)
	id, session := pathID[api.Application](p, "applicationId"), pathID[api.Session](p, "sessionId")
	details := p.boolean("details")
	if p.err != nil {
		return p.err
	}
	app, err := c.application(api.ScopeSessionsRead, id.String())
	if err != nil {
		return err
	}
	at := c.now()
	c.partialNodes()
	f, err := c.find(app, session, at)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, api.SessionReply{Session: f.show(app, at, details)})
}

// find looks for one session, in the order that read looks for many. With the store away only what it would have known is refused.
func (c *call) find(app tenant.Application, id api.SessionID, at api.Millis) (found, error) {
	if row, ok := c.registry.Get(app.ID, id); ok {
		one := []found{{row: &row}}
		if err := c.addDetails(c.r.Context(), app.ID, one); err != nil {
			c.partialStore(err)
		}
		return one[0], nil
	}
	records, err := c.records.Get(c.r.Context(), app.ID, []api.SessionID{id})
	rec, ok := records[id]
	switch {
	case ok && rec.EndedAt != 0:
		if rec.EndedAt >= keptSince(app, at) {
			return found{record: &rec}, nil
		}
	case ok: // still opening when the registry was asked, or left open by a crash and not yet closed: live only if it is there
		if row, live := c.registry.Get(app.ID, id); live {
			return found{row: &row, record: &rec}, nil
		}
		if rec.Lease != nil || c.clustered { // nobody holds it since its node stopped, or its node is not seen: it reads as disconnected
			return found{record: &rec}, nil
		}
	case err != nil:
		c.warn("a session could not be read", err)
		return found{}, api.Errorf(api.CodeUnavailable, "the session is not live, and the database that knows the others does not answer")
	}
	return found{}, api.Errorf(api.CodeSessionNotFound, "the application has no such session")
}

// revokeSessions is DELETE /applications/{applicationId}/sessions.
func (c *call) revokeSessions() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	reason := p.text("reason", api.MaxReason)
	if p.err != nil {
		return p.err
	}
	app, err := c.application(api.ScopeSessionsDisconnect, id.String())
	if err != nil {
		return err
	}
	ctx, cancel := c.acting()
	defer cancel()
	n, whole, err := c.owner.Revoke(ctx, id, tenant.Actor(c.key.PublicID), reason)
	if err != nil {
		return err
	}
	if !whole { // a node that is cut off applies it as soon as it hears of it
		c.partial(partialNodes)
	} else {
		c.partialNodes()
	}
	record := audited(c.now(), c.origin, &app, api.ActionSessionsRevoked, reason) // which the revocation has written; the count is new
	record.Count = &n
	c.records.AuditLater(record)
	c.settle(ctx)
	return c.json(http.StatusOK, api.DisconnectResult{Success: true, DisconnectedCount: n})
}

// settle waits for what an operator's end has queued: the answer means that the ends, and the denials of their tokens, outlast a
// crash. Where it cannot mean that, it says so.
func (c *call) settle(ctx context.Context) {
	if !c.records.Flush(ctx) {
		c.partial(partialStore)
	}
}

// disconnected returns the audit record of the end of one session.
func disconnected(at api.Millis, o tenant.Origin, app *tenant.Application, id api.SessionID, reason string) store.Audit {
	record := audited(at, o, app, api.ActionSessionDisconnected, reason)
	record.Target, record.Count = new(id.String()), new(1)
	return record
}

// disconnectSession is DELETE /applications/{applicationId}/sessions/{sessionId}. A session that has ended already is a success that
// ended nothing.
func (c *call) disconnectSession() error {
	p := readParams(c.r)
	id, session := pathID[api.Application](p, "applicationId"), pathID[api.Session](p, "sessionId")
	reason := p.text("reason", api.MaxReason)
	if p.err != nil {
		return p.err
	}
	app, err := c.application(api.ScopeSessionsDisconnect, id.String())
	if err != nil {
		return err
	}
	c.partialNodes()
	result := api.DisconnectResult{Success: true}
	f := found{}
	if row, live := c.registry.Get(id, session); live {
		f.row = &row
	} else if f, err = c.find(app, session, c.now()); err != nil {
		return err
	}
	if f.row != nil || f.record.EndedAt == 0 {
		ctx, cancel := c.acting()
		defer cancel()
		var ended bool
		by := tenant.Actor(c.key.PublicID)
		if f.row != nil {
			ended, err = c.owner.Disconnect(ctx, id, f.row.ServerID, by, reason)
		} else {
			ended, err = c.leases.EndUnheld(ctx, id, session, by, reason)
		}
		if err != nil {
			return err
		}
		if ended {
			c.records.AuditLater(disconnected(c.now(), c.origin, &app, session, reason))
			c.settle(ctx)
			result.DisconnectedCount = 1
		}
	}
	return c.json(http.StatusOK, result)
}
