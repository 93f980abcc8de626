package manage

import (
	"math"
	"net/http"
	"slices"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// categories is the one table of the search columns, in the order in which messages name them.
var (
	categoryNames = []api.Category{api.CategoryLicense, api.CategoryIP, api.CategoryClientID}
	categoryBits  = []registry.Categories{registry.License, registry.IP, registry.ClientID}
)

func categoriesOf[S ~string](names []S) (registry.Categories, bool) {
	var set registry.Categories
	for _, name := range names {
		i := slices.Index(categoryNames, api.Category(name))
		if i < 0 {
			return 0, false
		}
		set |= categoryBits[i]
	}
	return set, true
}

// namesOf is the way back.
func namesOf(set registry.Categories) (names []api.Category) {
	for i, bit := range categoryBits {
		if set&bit != 0 {
			names = append(names, categoryNames[i])
		}
	}
	return names
}

// view reads the query of the Live Sessions dialect; who it is about comes after the checks.
func (p *params) view() registry.Query {
	q := registry.Query{
		Page:       p.integer("page", api.DefaultPage, math.MaxInt),
		PageSize:   p.integer("pageSize", api.DefaultPageSize, api.MaxPageSize),
		Search:     p.text("searchString", api.MaxSearch),
		Categories: registry.License,
	}
	if names := p.values["categories"]; len(names) > 0 {
		set, ok := categoriesOf(names)
		if !ok {
			p.fail("categories must be %s, the parameter repeated for several", input.OneOf(categoryNames))
		}
		q.Categories = set
	}
	q.Totals = p.boolean("totals")
	return q
}

// live is GET /wss/get-application-sessions, both as a list and as a stream.
func (c *call) live() error {
	p := readParams(c.r)
	ref, q := p.applicationRef(), p.view()
	if p.err != nil {
		return p.err
	}
	stream := c.isStream()
	if stream {
		if err := websock.Check(c.r); err != nil {
			return err
		}
	}
	app, err := c.watchable(c.key, ref)
	if err != nil {
		return err
	}
	q.Organization, q.Application = app.Organization, app.ID
	if stream {
		return c.stream(q)
	}
	c.w.Header().Set(api.ApplicationHeader, app.ID.String())
	c.partialNodes()
	return c.json(http.StatusOK, api.LiveList{Success: true, Message: "OK", View: c.registry.List(q)})
}

// watchable makes the checks of the Live Sessions dialect that follow validation. Streams make them again and again.
func (a *API) watchable(key tenant.Key, ref string) (tenant.Application, error) {
	if err := key.Require(api.ScopeSessionsRead); err != nil {
		return tenant.Application{}, err
	}
	app, err := a.tenants.Visible(key, ref)
	switch {
	case err != nil:
		return tenant.Application{}, err
	case app.State == api.ApplicationArchived:
		return tenant.Application{}, api.Errorf(api.CodeApplicationNotFound, "there is no such application")
	case !app.Plan.LiveSessionsOverview:
		return tenant.Application{}, api.Errorf(api.CodePlanRestricted, "the plan does not include the overview of live sessions")
	}
	return app, nil
}
