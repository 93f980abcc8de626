package manage

import (
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// The admin routes: organizations and plans, API keys, and applications with ids, numbers and publishable keys of one's choice.

func (c *call) listOrganizations() error {
	if err := readParams(c.r).err; err != nil {
		return err
	}
	reply := api.OrganizationList{Items: []api.Organization{}}
	for _, org := range c.tenants.Organizations() {
		reply.Items = append(reply.Items, tenant.OrganizationAPI(org))
	}
	return c.json(http.StatusOK, reply)
}

func (c *call) createOrganization() error {
	if err := readParams(c.r).err; err != nil {
		return err
	}
	in, err := c.organizationBody(creating)
	if err != nil {
		return err
	}
	ctx, cancel := c.acting()
	defer cancel()
	org, err := c.tenants.CreateOrganization(ctx, in)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, tenant.OrganizationAPI(org))
}

// pathOrganization finds the organization that the path names.
func (c *call) pathOrganization() (store.Organization, error) {
	p := readParams(c.r)
	id := pathID[api.Organization](p, "organizationId")
	if p.err != nil {
		return store.Organization{}, p.err
	}
	org, ok := c.tenants.Organization(id)
	if !ok {
		return org, api.Errorf(api.CodeNotFound, "there is no such organization")
	}
	return org, nil
}

func (c *call) getOrganization() error {
	org, err := c.pathOrganization()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, tenant.OrganizationAPI(org))
}

func (c *call) patchOrganization() error {
	in, err := c.organizationBody(patching)
	org, missing := c.pathOrganization()
	if err := validationFirst(missing, err); err != nil {
		return err
	}
	ctx, cancel := c.acting()
	defer cancel()
	org, err = c.tenants.PatchOrganization(ctx, org.ID, in)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, tenant.OrganizationAPI(org))
}

// validationFirst orders a fault of the path and one of the body: whatever is malformed counts before what does not exist.
func validationFirst(path, body error) error {
	if path != nil && (api.CodeOf(path) == api.CodeValidation || body == nil) {
		return path
	}
	return body
}

func (c *call) organizationBody(why purpose) (tenant.OrganizationInput, error) {
	o, err := c.readBody()
	if err != nil {
		return tenant.OrganizationInput{}, err
	}
	in := tenant.OrganizationInput{Name: o.name("name", why), Plan: o.plan()}
	if why == creating {
		in.ID = input.Scalar[api.OrganizationID](o.Object, "id", "a UUID")
	}
	return in, firstError(o.Done(), in.Check())
}

func (o *object) plan() *tenant.PlanInput {
	p := o.Inside("plan")
	if p == nil {
		return nil
	}
	in := &tenant.PlanInput{LiveSessionsOverview: p.Boolean("liveSessionsOverview"), HistoryRetention: p.Duration("historyRetention")}
	keep(&in.Name, p.String("name"))
	if raw, ok := p.Get("maxAuthorizedSessions"); ok && !input.IsNull(raw) {
		in.MaxAuthorizedSessions = p.Integer("maxAuthorizedSessions", 0, math.MaxInt32)
	}
	_ = p.Done() // its faults are o's
	return in
}

func (c *call) listKeys() error {
	org, err := c.pathOrganization()
	if err != nil {
		return err
	}
	reply := api.APIKeyList{Items: []api.APIKey{}}
	for _, key := range c.tenants.Keys(org.ID) {
		reply.Items = append(reply.Items, tenant.KeyAPI(key, c.now()))
	}
	return c.json(http.StatusOK, reply)
}

func (c *call) createKey() error {
	in, err := c.keyBody(creating)
	org, missing := c.pathOrganization()
	if err := validationFirst(missing, err); err != nil {
		return err
	}
	ctx, cancel := c.acting()
	defer cancel()
	key, plaintext, err := c.tenants.CreateKey(ctx, org.ID, in)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, api.NewAPIKey{APIKey: tenant.KeyAPI(key, c.now()), Key: plaintext})
}

// pathKey finds the API key that the path names.
func (c *call) pathKey() (store.Key, error) {
	p := readParams(c.r)
	id := c.r.PathValue("publicId")
	const length = 16
	if len(id) != length || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		p.fail("publicId must be 16 characters of a-z and 0-9")
	}
	if p.err != nil {
		return store.Key{}, p.err
	}
	for _, org := range c.tenants.Organizations() {
		keys := c.tenants.Keys(org.ID)
		if i := slices.IndexFunc(keys, func(k store.Key) bool { return k.PublicID == id }); i >= 0 {
			return keys[i], nil
		}
	}
	return store.Key{}, api.Errorf(api.CodeNotFound, "there is no such API key")
}

func (c *call) getKey() error {
	key, err := c.pathKey()
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, tenant.KeyAPI(key, c.now()))
}

func (c *call) patchKey() error {
	in, err := c.keyBody(patching)
	key, missing := c.pathKey()
	if err := validationFirst(missing, err); err != nil {
		return err
	}
	ctx, cancel := c.acting()
	defer cancel()
	key, err = c.tenants.PatchKey(ctx, key.PublicID, in)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, tenant.KeyAPI(key, c.now()))
}

func (c *call) revokeKey() error {
	key, err := c.pathKey()
	if err != nil {
		return err
	}
	ctx, cancel := c.acting()
	defer cancel()
	key, err = c.tenants.RevokeKey(ctx, key.PublicID)
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, tenant.KeyAPI(key, c.now()))
}

func (c *call) keyBody(why purpose) (tenant.KeyInput, error) {
	o, err := c.readBody()
	if err != nil {
		return tenant.KeyInput{}, err
	}
	scopes := "an array of " + input.OneOf(api.Scopes)
	in := tenant.KeyInput{Name: o.name("name", why), Scopes: input.List[api.Scope](o.Object, "scopes", scopes)}
	if in.Scopes == nil && why == creating {
		o.Fail("scopes", "given: "+scopes)
	}
	if raw, ok := o.Get("applications"); ok {
		// null is how a key that has all of them is shown, "all" how the bootstrap file says it.
		var word string
		all := input.IsNull(raw) || json.Unmarshal(raw, &word) == nil && word == "all"
		in.AllApplications = &all
		if !all {
			in.Applications = input.List[api.ApplicationID](o.Object, "applications", `null or "all" (all of them), or an array of UUIDs`)
		}
	}
	if raw, ok := o.Get("expiresAt"); ok {
		in.ExpiresAt = new(api.Millis)
		if !input.IsNull(raw) {
			if at := input.Scalar[api.Timestamp](o.Object, "expiresAt", "null (never) or a time such as 2026-01-31T15:04:05Z"); at != nil {
				*in.ExpiresAt = api.Millis(*at)
			}
		}
	}
	return in, firstError(o.Done(), in.Check())
}

// pathApplication finds the application that the path names, whosever it is.
func (c *call) pathApplication() (tenant.Application, error) {
	p := readParams(c.r)
	id := pathID[api.Application](p, "applicationId")
	if p.err != nil {
		return tenant.Application{}, p.err
	}
	app, ok := c.tenants.Application(id)
	if !ok {
		return app, api.Errorf(api.CodeApplicationNotFound, "there is no such application")
	}
	return app, nil
}

func (c *call) adminListApplications() error {
	org, err := c.pathOrganization()
	if err != nil {
		return err
	}
	return c.showApplications(c.tenants.ApplicationsOf(org.ID))
}

func (c *call) adminCreateApplication() error {
	in, err := c.applicationBody(adminCreating)
	org, missing := c.pathOrganization()
	if err := validationFirst(missing, err); err != nil {
		return err
	}
	return c.create(org.ID, in)
}

func (c *call) adminGetApplication() error {
	app, err := c.pathApplication()
	if err != nil {
		return err
	}
	return c.showApplication(app)
}

func (c *call) adminPatchApplication() error {
	in, err := c.applicationBody(patching)
	app, missing := c.pathApplication()
	if err := validationFirst(missing, err); err != nil {
		return err
	}
	return c.patch(app.ID, in, tenant.Admin)
}

func (c *call) adminArchiveApplication() error {
	app, err := c.pathApplication()
	if err != nil {
		return err
	}
	return c.archive(app.ID, tenant.Admin)
}
