package manage

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// originOf returns where the call's changes come from.
func (c *call) originOf(actor api.AuditActor) tenant.Origin {
	o := tenant.Origin{Actor: actor, ID: store.NewAuditID()}
	if addr := c.address(); addr.IsValid() {
		o.IP = addr.String()
	}
	return o
}

// audited returns the audit record of what the call has done to an application. Changes of the configuration leave theirs in their
// own transaction (package tenant); a record of the same call only adds its count to that.
func audited(at api.Millis, o tenant.Origin, app *tenant.Application, action api.AuditAction, reason string) store.Audit {
	a := o.Record(app.Organization, action)
	a.Time, a.ApplicationID = api.Timestamp(at), &app.ID
	if reason != "" {
		a.Reason = &reason
	}
	return a
}

// detailed is a record's details.
func detailed(v any) json.RawMessage {
	details, _ := json.Marshal(v) // of strings, numbers and times: it cannot fail
	return details
}

// listAudit is GET /audit.
func (c *call) listAudit() error {
	p := readParams(c.r)
	q := p.audit(c.key.Organization)
	var app string
	if value, ok := p.single("applicationId"); ok {
		if _, err := api.ParseID[api.Application](value); err != nil {
			p.fail("applicationId must be a UUID")
		}
		app = value
	}
	if err := firstError(p.err, c.key.Require(api.ScopeAuditRead)); err != nil {
		return err
	}
	q.Applications = c.key.OnlyApplications()
	if app != "" {
		found, err := c.tenants.Visible(c.key, app)
		if err != nil {
			return err
		}
		q.Applications = []api.ApplicationID{found.ID}
	}
	return c.showAudit(q)
}

// adminListAudit is GET /admin/organizations/{organizationId}/audit.
func (c *call) adminListAudit() error {
	p := readParams(c.r)
	id := pathID[api.Organization](p, "organizationId")
	q := p.audit(id)
	if value, ok := p.single("applicationId"); ok {
		app, err := api.ParseID[api.Application](value)
		if err != nil {
			p.fail("applicationId must be a UUID")
		}
		q.Applications = []api.ApplicationID{app}
	}
	if p.err != nil {
		return p.err
	}
	if _, err := c.pathOrganization(); err != nil {
		return err
	}
	return c.showAudit(q)
}

// audit reads what a list of audit records is to have.
func (p *params) audit(org api.OrganizationID) store.AuditQuery {
	q := store.AuditQuery{Organization: org, Limit: p.integer("limit", api.DefaultLimit, api.MaxLimit)}
	if cursor, ok := p.single("cursor"); ok {
		at, valid := decodeCursor(api.ApplicationID(org), cursor)
		id, err := api.ParseID[api.AuditRecord](string(at.ServerID))
		if !valid || err != nil {
			p.fail("cursor must be a nextCursor of this list, as it was given")
		}
		q.After = &store.AuditPosition{At: at.CreatedAt, ID: id}
	}
	q.From, q.Before = p.time("from"), p.time("to")
	q.Actions = choices(p, "action", api.AuditActions)
	return q
}

func (c *call) showAudit(q store.AuditQuery) error {
	org, ok := c.tenants.Organization(q.Organization)
	if !ok {
		return api.Errorf(api.CodeNotFound, "there is no such organization")
	}
	q.From = max(q.From, c.now().Add(-time.Duration(org.Plan.HistoryRetention)))
	limit := q.Limit
	q.Limit++
	records, err := c.records.ListAudit(c.r.Context(), q)
	if err != nil {
		c.warn("audit records could not be read", err)
		return &api.Error{Code: api.CodeUnavailable, RetryAfter: time.Second, Message: "the database does not answer: try again"}
	}
	reply := api.AuditList{Items: make([]api.AuditRecord, 0, min(len(records), limit))}
	if len(records) > limit {
		records = records[:limit]
		last := records[limit-1].Position()
		reply.NextCursor = encodeCursor(api.ApplicationID(q.Organization),
			api.Position{CreatedAt: last.At, ServerID: api.ServerID(last.ID.String())})
	}
	for i := range records {
		reply.Items = append(reply.Items, records[i].AuditRecord)
	}
	return c.json(http.StatusOK, reply)
}
