package manage

import (
	"net/http"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// accountLimits is GET /account/limits: archived applications and keys that cannot be used are not counted.
func (c *call) accountLimits() error {
	if err := firstError(readParams(c.r).err, c.key.Require(api.ScopeAccountRead)); err != nil {
		return err
	}
	org, ok := c.tenants.Organization(c.key.Organization)
	if !ok {
		return api.Errorf(api.CodeKeyInvalid, "the API key is not valid")
	}
	c.partialNodes()
	reply := api.AccountLimits{
		PlanName:           org.Plan.Name,
		AuthorizedSessions: api.Limit{CurrentValue: c.registry.Authorized(org.ID), MaxValue: org.Plan.MaxAuthorizedSessions},
	}
	for _, app := range c.tenants.ApplicationsOf(org.ID) {
		if app.State != api.ApplicationArchived {
			reply.Applications.CurrentValue++
		}
	}
	at := c.now()
	for _, key := range c.tenants.Keys(org.ID) {
		if tenant.KeyAPI(key, at).State == api.KeyActive {
			reply.APIKeys.CurrentValue++
		}
	}
	return c.json(http.StatusOK, reply)
}
