package tenant

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Origin is who asks for a change, and from where: what the audit record of a change says beside the change. Every write of the
// directory leaves its records in its own transaction; one that changes nothing leaves none.
type Origin struct {
	Actor api.AuditActor
	IP    string      // "" = none
	ID    api.AuditID // of the first record, for who adds a count to it; zero = a fresh one
}

type originKey struct{}

// WithOrigin returns a context for the writes of one request. Without an origin it is the admin's.
func WithOrigin(ctx context.Context, o Origin) context.Context {
	return context.WithValue(ctx, originKey{}, o)
}

func originOf(ctx context.Context) Origin {
	if o, ok := ctx.Value(originKey{}).(Origin); ok {
		return o
	}
	return Origin{Actor: api.AuditActor{Type: api.ActorAdmin}}
}

// Record returns an audit record of an organization, which leaves the ID that the origin has, or a fresh one.
func (o Origin) Record(org api.OrganizationID, action api.AuditAction) store.Audit {
	a := store.Audit{Organization: org, AuditRecord: api.AuditRecord{ID: o.ID, Action: action, Actor: o.Actor}}
	if a.ID.IsZero() {
		a.ID = store.NewAuditID()
	}
	if o.IP != "" {
		a.IPAddress = &o.IP
	}
	return a
}

// AuditActor returns the key as audit records name it.
func (k Key) AuditActor() api.AuditActor {
	return api.AuditActor{Type: api.ActorKey, PublicID: k.PublicID, Name: k.row.Name}
}

// OnlyApplications returns the applications that the key is restricted to; nil when it is not, empty when it has none.
func (k Key) OnlyApplications() []api.ApplicationID {
	if !k.restricted() {
		return nil
	}
	return append([]api.ApplicationID{}, k.row.Applications...)
}

// audit appends the record of a change to the edit's transaction. What changed is told by the names of the fields alone: some are
// secrets.
func (e *edit) audit(org api.OrganizationID, action api.AuditAction, target string, changed []string, more func(*store.Audit)) error {
	a := e.origin.Record(org, action)
	e.origin.ID = api.AuditID{}
	a.Target = &target
	if len(changed) > 0 {
		a.Details, _ = json.Marshal(map[string][]string{"changed": changed}) // strings: it cannot fail
	}
	if more != nil {
		more(&a)
	}
	return e.Audit(a)
}

func (e *edit) auditOrganization(old *store.Organization, row *store.Organization) error {
	if old == nil {
		return e.audit(row.ID, api.ActionOrganizationCreated, row.ID.String(), nil, nil)
	}
	return e.audit(row.ID, api.ActionOrganizationUpdated, row.ID.String(),
		differing(field{"name", old.Name, row.Name}, field{"plan", old.Plan, row.Plan}), nil)
}

func (e *edit) auditApplication(old, row *store.Application) error {
	about := func(a *store.Audit) { a.ApplicationID = &row.ID }
	if old == nil {
		return e.audit(row.Organization, api.ActionApplicationCreated, row.ID.String(), nil, about)
	}
	changed := differing(field{"number", old.Number, row.Number}, field{"name", old.Name, row.Name}, field{"state", old.State, row.State},
		field{"publishableKey", old.PublishableKey, row.PublishableKey}, field{"idleAfter", old.IdleAfter, row.IdleAfter},
		field{"allowedOrigins", slices.Concat([]string{}, old.AllowedOrigins), slices.Concat([]string{}, row.AllowedOrigins)},
		field{"strictRevocation", old.StrictRevocation, row.StrictRevocation},
		field{"tokens", [4]string{old.HS256Secret, old.JWKSURL, old.Issuer, old.Audience},
			[4]string{row.HS256Secret, row.JWKSURL, row.Issuer, row.Audience}})
	action := api.ActionApplicationUpdated
	switch {
	case row.State != old.State && row.State == api.ApplicationPaused:
		action = api.ActionApplicationPaused
	case row.State != old.State && row.State == api.ApplicationArchived:
		action = api.ActionApplicationArchived
	case row.State != old.State:
		action = api.ActionApplicationResumed
	case row.Epoch != old.Epoch:
		action = api.ActionSessionsRevoked
		about = func(a *store.Audit) {
			a.ApplicationID, a.Target = &row.ID, nil
			if row.RevokedReason != "" {
				a.Reason = &row.RevokedReason
			}
		}
	}
	return e.audit(row.Organization, action, row.ID.String(), changed, about)
}

func (e *edit) auditKey(old, row *store.Key) error {
	if old == nil {
		return e.audit(row.Organization, api.ActionKeyCreated, row.PublicID, nil, nil)
	}
	if old.RevokedAt == 0 && row.RevokedAt != 0 {
		return e.audit(row.Organization, api.ActionKeyRevoked, row.PublicID, nil, nil)
	}
	return e.audit(row.Organization, api.ActionKeyUpdated, row.PublicID, differing(field{"name", old.Name, row.Name},
		field{"key", old.SecretHash, row.SecretHash}, field{"scopes", old.Scopes, row.Scopes},
		field{"applications", keyApplications(old), keyApplications(row)}, field{"expiresAt", old.ExpiresAt, row.ExpiresAt}), nil)
}

// keyApplications returns what a key may see, in a form to compare: nil = all.
func keyApplications(k *store.Key) []api.ApplicationID {
	if k.AllApplications {
		return nil
	}
	return append([]api.ApplicationID{}, k.Applications...)
}

// field is a field before and after.
type field struct {
	name     string
	old, row any
}

// differing returns the names of the fields that differ.
func differing(fields ...field) (names []string) {
	for _, f := range fields {
		if !reflect.DeepEqual(f.old, f.row) {
			names = append(names, f.name)
		}
	}
	return names
}
