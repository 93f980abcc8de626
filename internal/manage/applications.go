package manage

import (
	"net/http"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

func (c *call) listApplications() error {
	if err := firstError(readParams(c.r).err, c.key.Require(api.ScopeApplicationsRead)); err != nil {
		return err
	}
	return c.showApplications(c.tenants.Applications(c.key))
}

// firstError returns the first of the outcomes of checks, in the order in which they count.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *call) createApplication() error {
	p := readParams(c.r)
	if p.err != nil {
		return p.err
	}
	in, err := c.applicationBody(creating)
	if err != nil {
		return err
	}
	if err := c.key.Require(api.ScopeApplicationsWrite); err != nil {
		return err
	}
	// A key that has a list has no application outside it, those that are about to exist included.
	if _, err := c.tenants.Visible(c.key, api.NewID[api.Application]().String()); api.CodeOf(err) == api.CodeApplicationForbidden {
		return api.Errorf(api.CodeApplicationForbidden, "a key that is restricted to applications cannot create one")
	}
	return c.create(c.key.Organization, in)
}

func (c *call) create(org api.OrganizationID, in tenant.ApplicationInput) error {
	ctx, cancel := c.acting()
	defer cancel()
	app, err := c.tenants.CreateApplication(ctx, org, in)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, app.API())
}

func (c *call) getApplication() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	app, err := c.application(api.ScopeApplicationsRead, id.String())
	if err != nil {
		return err
	}
	return c.showApplication(app)
}

func (c *call) showApplication(app tenant.Application) error {
	c.partialNodes()
	reply, err := c.counted(app)
	if err != nil {
		c.partialStore(err)
	}
	return c.json(http.StatusOK, reply)
}

func (c *call) showApplications(apps []tenant.Application) error {
	c.partialNodes()
	reply := api.ApplicationList{Items: make([]api.Application, 0, len(apps))}
	var failed error // the first, which says it for all
	for _, app := range apps {
		item, err := c.counted(app)
		reply.Items, failed = append(reply.Items, item), firstError(failed, err)
	}
	if failed != nil {
		c.partialStore(failed)
	}
	return c.json(http.StatusOK, reply)
}

// counted returns the application with the counts of its sessions. The error is the store's: only the ended ones that wait to be
// written are counted then.
func (c *call) counted(app tenant.Application) (api.Application, error) {
	at := c.now()
	live, active, idle := c.registry.Counts(app.ID, at, app.IdleAfter)
	ended, err := c.records.CountEnded(c.r.Context(), app.ID, keptSince(app, at))
	reply := app.API()
	reply.Sessions = &api.SessionCounts{Active: active, Idle: idle, Live: live, Total: live + ended}
	return reply, err
}

func (c *call) patchApplication() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	in, err := c.applicationBody(patching)
	if err != nil {
		return err
	}
	if _, err := c.application(api.ScopeApplicationsWrite, id.String()); err != nil {
		return err
	}
	return c.patch(id, in, tenant.Actor(c.key.PublicID))
}

func (c *call) patch(id api.ApplicationID, in tenant.ApplicationInput, by tenant.Actor) error {
	ctx, cancel := c.acting()
	defer cancel()
	app, err := c.tenants.PatchApplication(ctx, id, in, by)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, app.API())
}

func (c *call) archiveApplication() error {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return p.err
	}
	if _, err := c.application(api.ScopeApplicationsWrite, id.String()); err != nil {
		return err
	}
	return c.archive(id, tenant.Actor(c.key.PublicID))
}

func (c *call) archive(id api.ApplicationID, by tenant.Actor) error {
	ctx, cancel := c.acting()
	defer cancel()
	app, err := c.tenants.ArchiveApplication(ctx, id, by)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, app.API())
}

// What a body about an application is for. Numbers, ids and publishable keys are unique over all organizations, and "already taken"
// would tell one about another (G8): only the admin chooses them.
type purpose int

const (
	patching      purpose = 0
	creating      purpose = 1
	adminCreating purpose = 2
)

func (c *call) applicationBody(why purpose) (tenant.ApplicationInput, error) {
	o, err := c.readBody()
	if err != nil {
		return tenant.ApplicationInput{}, err
	}
	in := tenant.ApplicationInput{
		Name:             o.name("name", why),
		State:            input.Scalar[api.ApplicationState](o.Object, "state", "active or paused"),
		IdleAfter:        o.Duration("idleAfter"),
		AllowedOrigins:   input.List[string](o.Object, "allowedOrigins", `an array of origins such as "https://app.example.com"`),
		StrictRevocation: o.Boolean("strictRevocation"),
		Tokens:           o.tokens(),
	}
	if why == adminCreating {
		in.ID = input.Scalar[api.ApplicationID](o.Object, "id", "a UUID")
		in.Number = o.String("number")
		in.PublishableKey = o.String("publishableKey")
	}
	return in, firstError(o.Done(), in.Check())
}

// name reads a name, which creating takes.
func (o *object) name(field string, why purpose) *string {
	v := o.String(field)
	if v == nil && why != patching {
		o.Fail(field, "given: a string that is not empty")
	}
	return v
}

func (o *object) tokens() *tenant.TokensInput {
	t := o.Inside("tokens")
	if t == nil {
		return nil
	}
	in := &tenant.TokensInput{}
	keep(&in.HS256Secret, t.String("hs256Secret"))
	keep(&in.JWKSURL, t.String("jwksUrl"))
	keep(&in.Issuer, t.String("issuer"))
	keep(&in.Audience, t.String("audience"))
	_ = t.Done() // its faults are o's
	return in
}
