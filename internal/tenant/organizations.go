package tenant

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

const (
	defaultPlanName  = "Default"
	defaultRetention = api.Duration(720 * time.Hour)
)

// OrganizationInput creates or patches an organization; nil fields keep what is there. At creation Name is required, ID nil = a
// fresh one, Plan nil = named Default, without a limit.
type OrganizationInput struct {
	ID   *api.OrganizationID
	Name *string
	Plan *PlanInput
}

// PlanInput is a plan in a body or a bootstrap file. Name "" = Default, MaxAuthorizedSessions nil = unlimited.
type PlanInput struct {
	Name                  string        `json:"name" yaml:"name"`
	MaxAuthorizedSessions *int          `json:"maxAuthorizedSessions" yaml:"maxAuthorizedSessions"`
	LiveSessionsOverview  *bool         `json:"liveSessionsOverview" yaml:"liveSessionsOverview"` // nil = true
	HistoryRetention      *api.Duration `json:"historyRetention" yaml:"historyRetention"`         // nil = 720h
}

func (in PlanInput) plan() api.Plan {
	plan := api.Plan{
		Name:                  cmp.Or(in.Name, defaultPlanName),
		MaxAuthorizedSessions: in.MaxAuthorizedSessions,
		LiveSessionsOverview:  in.LiveSessionsOverview == nil || *in.LiveSessionsOverview,
		HistoryRetention:      defaultRetention,
	}
	if in.HistoryRetention != nil {
		plan.HistoryRetention = *in.HistoryRetention
	}
	return clonePlan(plan)
}

func (in OrganizationInput) check() error {
	return first(checkID("id", in.ID), checkName("name", in.Name), checkPlan(in.Plan))
}

// apply changes row as the input says; the input has passed check.
func (in OrganizationInput) apply(row *store.Organization) {
	if in.Name != nil {
		row.Name = *in.Name
	}
	if in.Plan != nil {
		row.Plan = in.Plan.plan()
	}
}

// newOrganization is what an organization is before its input is applied.
func newOrganization(id api.OrganizationID, now api.Millis) store.Organization {
	return store.Organization{ID: id, Plan: PlanInput{}.plan(), CreatedAt: now}
}

// Organization returns an organization.
func (d *Directory) Organization(id api.OrganizationID) (store.Organization, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	row := d.mem.organizations[id]
	if row == nil {
		return store.Organization{}, false
	}
	return cloneOrganization(row), true
}

// Organizations returns all of them, oldest first.
func (d *Directory) Organizations() []store.Organization {
	d.mu.RLock()
	defer d.mu.RUnlock()
	orgs := make([]store.Organization, 0, len(d.mem.organizations))
	for _, row := range d.mem.organizations {
		orgs = append(orgs, cloneOrganization(row))
	}
	slices.SortFunc(orgs, func(a, b store.Organization) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), a.ID.Compare(b.ID))
	})
	return orgs
}

func cloneOrganization(row *store.Organization) store.Organization {
	org := *row
	org.Plan = clonePlan(org.Plan)
	return org
}

// OrganizationAPI returns an organization for the wire.
func OrganizationAPI(o store.Organization) api.Organization {
	return api.Organization{ID: o.ID, Name: o.Name, Plan: clonePlan(o.Plan), CreatedAt: api.Timestamp(o.CreatedAt)}
}

func errNoOrganization() *api.Error {
	return api.Errorf(api.CodeNotFound, "there is no such organization")
}

// CreateOrganization and the rest of the admin's writes follow the same rules as CreateApplication.
func (d *Directory) CreateOrganization(ctx context.Context, in OrganizationInput) (store.Organization, error) {
	if in.Name == nil {
		in.Name = new(string) // check says what a name must be
	}
	if in.ID == nil {
		in.ID = new(api.NewID[api.Organization]())
	}
	if err := in.check(); err != nil {
		return store.Organization{}, asAPI(err)
	}
	return d.changeOrganization(ctx, *in.ID, func(e *edit, old *store.Organization) (store.Organization, error) {
		if old != nil {
			return store.Organization{}, store.ErrConflict
		}
		row := newOrganization(*in.ID, e.Now())
		in.apply(&row)
		return row, nil
	})
}

// PatchOrganization changes one; a plan is replaced whole. An unknown one gives not_found.
func (d *Directory) PatchOrganization(ctx context.Context, id api.OrganizationID,
	in OrganizationInput) (store.Organization, error) {
	if in.ID != nil && *in.ID != id {
		return store.Organization{}, problemf("id", "cannot be changed").api()
	}
	if err := in.check(); err != nil {
		return store.Organization{}, asAPI(err)
	}
	return d.changeOrganization(ctx, id, func(_ *edit, old *store.Organization) (store.Organization, error) {
		if old == nil {
			return store.Organization{}, errNoOrganization()
		}
		row := *old
		in.apply(&row)
		return row, nil
	})
}

func (d *Directory) changeOrganization(ctx context.Context, id api.OrganizationID,
	change func(*edit, *store.Organization) (store.Organization, error)) (store.Organization, error) {
	err := d.write(ctx, func(e *edit) error {
		old, err := e.Organization(id)
		if err != nil {
			return err
		}
		row, err := change(e, old)
		if err != nil {
			return err
		}
		return e.putOrganization(old, row)
	})
	if err != nil {
		return store.Organization{}, asAPI(err)
	}
	org, _ := d.Organization(id)
	return org, nil
}
