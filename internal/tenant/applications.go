package tenant

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Application is a snapshot of an application with its organization's plan.
type Application struct {
	store.Application
	Plan api.Plan
}

// API returns the application for the wire.
func (a Application) API() api.Application {
	return api.Application{
		ID: a.ID, Number: a.Number, Name: a.Name, State: a.State, OrganizationID: a.Organization,
		PublishableKey: a.PublishableKey, IdleAfter: api.Duration(a.IdleAfter),
		AllowedOrigins: append([]string{}, a.AllowedOrigins...), StrictRevocation: a.StrictRevocation,
		Tokens: api.TokenSettings{
			HS256: a.HS256Secret != "", JWKSURL: a.JWKSURL, Issuer: a.Issuer, Audience: a.Audience,
		},
		CreatedAt: api.Timestamp(a.CreatedAt),
	}
}

// MaxAuthorized returns the plan's limit of authorized sessions, registry.Unlimited (-1) when there is none.
func (a Application) MaxAuthorized() int {
	if a.Plan.MaxAuthorizedSessions == nil {
		return -1
	}
	return *a.Plan.MaxAuthorizedSessions
}

// AllowsOrigins tells whether what sent these Origin headers may connect. A client that is no browser sends none, and is not
// concerned; a browser sends one. The default port of its scheme may be written out.
func (a Application) AllowsOrigins(origins []string) bool {
	return len(a.AllowedOrigins) == 0 || len(origins) == 0 ||
		len(origins) == 1 && slices.Contains(a.AllowedOrigins, normalOrigin(origins[0]))
}

// Application returns an application by id.
func (d *Directory) Application(id api.ApplicationID) (Application, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if d.mem.applications[id] == nil {
		return Application{}, false
	}
	return d.mem.application(id), true
}

// ApplicationInput creates or patches an application; nil fields keep what is there. At creation Name is required, and the
// defaults are: a fresh ID, a free Number of nine digits, State active, a fresh PublishableKey, IdleAfter 5m, any origin, no
// strict revocation, and only the tokens that Rollcall issues.
type ApplicationInput struct {
	ID               *api.ApplicationID
	Number           *string
	Name             *string
	State            *api.ApplicationState // active or paused
	PublishableKey   *string
	IdleAfter        *api.Duration
	AllowedOrigins   *[]string
	StrictRevocation *bool
	Tokens           *TokensInput // replaced whole; empty = only the tokens that Rollcall issues
}

// TokensInput sets how tokens are verified: HS256Secret, or JWKSURL; with either, Issuer and Audience are checked when given.
type TokensInput struct {
	HS256Secret string `json:"hs256Secret,omitempty" yaml:"hs256Secret"`
	JWKSURL     string `json:"jwksUrl,omitempty" yaml:"jwksUrl"`
	Issuer      string `json:"issuer,omitempty" yaml:"issuer"`
	Audience    string `json:"audience,omitempty" yaml:"audience"`
}

func (in ApplicationInput) check() error {
	return first(checkID("id", in.ID), checkNumber(in.Number), checkName("name", in.Name), checkState(in.State),
		checkPublishableKey(in.PublishableKey), checkIdleAfter(in.IdleAfter), checkOrigins(in.AllowedOrigins),
		checkTokens(in.Tokens))
}

// apply changes row as the input says; the input has passed check.
func (in ApplicationInput) apply(row *store.Application, by Actor) {
	if in.Number != nil {
		row.Number = *in.Number
	}
	if in.Name != nil {
		row.Name = *in.Name
	}
	if in.State != nil && *in.State != row.State {
		row.State, row.StateBy = *in.State, string(by)
	}
	if in.PublishableKey != nil {
		row.PublishableKey = *in.PublishableKey
	}
	if in.IdleAfter != nil {
		row.IdleAfter = time.Duration(*in.IdleAfter)
	}
	if in.AllowedOrigins != nil {
		row.AllowedOrigins = normalOrigins(*in.AllowedOrigins)
	}
	if in.StrictRevocation != nil {
		row.StrictRevocation = *in.StrictRevocation
	}
	if in.Tokens != nil {
		row.HS256Secret, row.JWKSURL = in.Tokens.HS256Secret, in.Tokens.JWKSURL
		row.Issuer, row.Audience = in.Tokens.Issuer, in.Tokens.Audience
	}
}

// newApplication is what an application is before its input is applied.
func (d *Directory) newApplication(id api.ApplicationID, org api.OrganizationID, now api.Millis) store.Application {
	return store.Application{
		ID: id, Organization: org, Number: d.freeNumber(), State: api.ApplicationActive,
		PublishableKey: "rca_" + randomString("abcdefghijklmnopqrstuvwxyz0123456789", 16),
		IdleAfter:      api.DefaultIdleAfter, CreatedAt: now,
	}
}

// freeNumber returns a random number of nine digits that no application has, as far as memory knows.
func (d *Directory) freeNumber() string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for {
		number := randomString("123456789", 1) + randomString("0123456789", 8)
		if _, taken := d.mem.numbers[number]; !taken {
			return number
		}
	}
}

// CreateApplication creates one in the organization; validation_error names the field, conflict what is taken: an id, number or
// publishable key is unique in the whole database.
func (d *Directory) CreateApplication(ctx context.Context, org api.OrganizationID, in ApplicationInput) (Application, error) {
	if in.Name == nil {
		in.Name = new(string) // check says what a name must be
	}
	if in.ID == nil {
		in.ID = new(api.NewID[api.Application]())
	}
	if err := in.check(); err != nil {
		return Application{}, asAPI(err)
	}
	var row store.Application
	create := func(e *edit) error {
		owner, err := e.Organization(org)
		if err != nil {
			return err
		}
		if owner == nil {
			return errNoOrganization()
		}
		old, err := e.Application(*in.ID)
		if err != nil {
			return err
		}
		if old != nil {
			return errTaken("id")
		}
		row = d.newApplication(*in.ID, org, e.Now())
		in.apply(&row, "")
		return e.putApplication(nil, row)
	}
	err := d.write(ctx, create)
	for range 3 { // another node may have drawn the same number at the same time
		if !errors.Is(err, store.ErrConflict) || in.Number != nil {
			break
		}
		err = d.write(ctx, create)
	}
	if err != nil {
		return Application{}, d.applicationConflict(err, row)
	}
	app, _ := d.Application(row.ID)
	return app, nil
}

func errTaken(field string) *api.Error {
	return api.Errorf(api.CodeConflict, "%s is taken by another application", field)
}

// applicationConflict makes store.ErrConflict a conflict that names the field; write has read what is taken.
func (d *Directory) applicationConflict(err error, row store.Application) error {
	if !errors.Is(err, store.ErrConflict) {
		return asAPI(err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	if id, taken := d.mem.numbers[row.Number]; taken && id != row.ID {
		return errTaken("number")
	}
	if app, taken := d.mem.byPublishableKey(row.PublishableKey); taken && app.ID != row.ID {
		return errTaken("publishableKey")
	}
	return errTaken("id, number or publishableKey")
}

// PatchApplication changes one. State paused ends its sessions through OnApplication. Archived applications give conflict.
func (d *Directory) PatchApplication(ctx context.Context, id api.ApplicationID, in ApplicationInput,
	by Actor) (Application, error) {
	if in.ID != nil && *in.ID != id {
		return Application{}, problemf("id", "cannot be changed").api()
	}
	if err := in.check(); err != nil {
		return Application{}, asAPI(err)
	}
	return d.changeApplication(ctx, id, func(_ *edit, row *store.Application) error {
		if row.State == api.ApplicationArchived {
			return api.Errorf(api.CodeConflict, "the application is archived, which is final")
		}
		in.apply(row, by)
		return nil
	})
}

// ArchiveApplication archives one, which is final, and raises its epoch. Idempotent.
func (d *Directory) ArchiveApplication(ctx context.Context, id api.ApplicationID, by Actor) (Application, error) {
	raising := d.raising[id[15]%64]
	if err := raising.take(ctx); err != nil {
		return Application{}, unavailable("nothing has changed", err)
	}
	defer raising.give()
	return d.changeApplication(ctx, id, func(e *edit, row *store.Application) error {
		if row.State != api.ApplicationArchived {
			row.State, row.StateBy = api.ApplicationArchived, string(by)
			raise(row, e.Now(), by, "")
		}
		return nil
	})
}

// raise revokes everything that was opened or issued so far. The time is SQL's, and never goes back.
func raise(row *store.Application, now api.Millis, by Actor, reason string) {
	row.Epoch++
	row.RevokedAt = max(row.RevokedAt, now)
	row.RevokedBy, row.RevokedReason = string(by), reason
}

// Revoke raises the application's epoch and revocation time and returns how many sessions that ended here (the sum that
// OnApplication returned). With the database away it returns unavailable, and nothing has changed. An archived application has
// nothing to revoke: 0. The reason is at most 256 characters.
func (d *Directory) Revoke(ctx context.Context, id api.ApplicationID, by Actor, reason string) (Application, int, error) {
	if err := first(checkReason(reason)); err != nil {
		return Application{}, 0, asAPI(err)
	}
	raising := d.raising[id[15]%64]
	if err := raising.take(ctx); err != nil {
		return Application{}, 0, unavailable("nothing has changed", err)
	}
	defer raising.give()
	ended := map[uint64]int{}
	d.mu.Lock()
	d.counts[id] = ended
	d.mu.Unlock()
	var epoch uint64
	app, err := d.changeApplication(ctx, id, func(e *edit, row *store.Application) error {
		if row.State != api.ApplicationArchived {
			raise(row, e.Now(), by, reason)
			epoch = row.Epoch
		}
		return nil
	})
	d.mu.Lock()
	delete(d.counts, id)
	count := ended[epoch]
	d.mu.Unlock()
	if err != nil {
		return Application{}, 0, err
	}
	return app, count, nil
}

// Revocation is what one node tells another of a revocation that it has committed. RevokedAt is by the database's clock.
type Revocation struct {
	Epoch     uint64     `json:"epoch"`
	RevokedAt api.Millis `json:"revokedAt"`
	By        string     `json:"by"`
	Reason    string     `json:"reason"`
	Version   int64      `json:"version"`
}

// Heed applies a revocation of which another node tells, so that it takes effect here while the database does not answer (G4);
// what the database says then takes its place. An application that is not known has no sessions here.
func (d *Directory) Heed(ctx context.Context, id api.ApplicationID, r Revocation) error {
	d.mu.Lock()
	if app := d.mem.applications[id]; app != nil && app.Epoch < r.Epoch {
		row := *app
		row.Epoch, row.RevokedAt, row.RevokedBy, row.RevokedReason, row.Version = r.Epoch, r.RevokedAt, r.By, r.Reason, r.Version
		d.mem.applications[id] = &row
		d.enqueueLocked([]*store.Application{&row})
	}
	d.mu.Unlock()
	return d.deliver(ctx)
}

func (d *Directory) changeApplication(ctx context.Context, id api.ApplicationID,
	change func(*edit, *store.Application) error) (Application, error) {
	var row store.Application
	err := d.write(ctx, func(e *edit) error {
		old, err := e.Application(id)
		if err != nil {
			return err
		}
		if old == nil {
			return errNoApplication()
		}
		row = *old
		row.AllowedOrigins = slices.Clone(row.AllowedOrigins)
		if err := change(e, &row); err != nil {
			return err
		}
		return e.putApplication(old, row)
	})
	if err != nil {
		return Application{}, d.applicationConflict(err, row)
	}
	app, _ := d.Application(id)
	return app, nil
}
