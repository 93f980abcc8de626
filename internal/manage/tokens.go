package manage

import (
	"net/http"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// issueToken is POST /applications/{applicationId}/session-tokens.
func (c *call) issueToken() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	in, err := c.tokenBody()
	if err != nil {
		return err
	}
	app, err := c.application(api.ScopeSessionsCreate, id.String())
	if err != nil {
		return err
	}
	reply, err := c.tenants.IssueToken(app, in)
	if err != nil {
		return err
	}
	record := audited(c.now(), c.origin, &app, api.ActionTokenIssued, "")
	if in.Login != "" {
		record.Target = &in.Login
	}
	record.Details = detailed(struct {
		License   string        `json:"license,omitempty"`
		ClientID  string        `json:"clientId,omitempty"`
		Name      string        `json:"name,omitempty"`
		ExpiresAt api.Timestamp `json:"expiresAt"`
	}{in.License, in.ClientID, in.Name, reply.ExpiresAt})
	ctx, cancel := c.acting()
	defer cancel()
	if err := c.records.Audit(ctx, record); err != nil {
		c.warn("a session token was not given out, for there is no room for its audit record", err)
		return api.Errorf(api.CodeUnavailable, "the audit record of the token cannot be kept now: try again")
	}
	return c.json(http.StatusCreated, reply)
}

func (c *call) tokenBody() (api.TokenInput, error) {
	var in api.TokenInput
	o, err := c.readBody()
	if err != nil {
		return in, err
	}
	keep(&in.Login, o.String("login"))
	keep(&in.License, o.String("license"))
	keep(&in.ClientID, o.String("clientId"))
	keep(&in.Name, o.String("name"))
	keep(&in.ExpiresIn, o.Integer("expiresIn", tenant.MinTokenSeconds, tenant.MaxTokenSeconds))
	return in, firstError(o.Done(), tenant.CheckToken(in))
}
