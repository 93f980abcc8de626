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
	return c.json(http.StatusCreated, reply)
}

func (c *call) tokenBody() (api.TokenInput, error) {
	var in api.TokenInput
	o, err := c.readBody()
	if err != nil {
		return in, err
	}
	keep(&in.Login, o.text("login"))
	keep(&in.License, o.text("license"))
	keep(&in.ClientID, o.text("clientId"))
	keep(&in.Name, o.text("name"))
	keep(&in.ExpiresIn, o.integer("expiresIn", tenant.MinTokenSeconds, tenant.MaxTokenSeconds))
	return in, firstError(o.done(), tenant.CheckToken(in))
}
