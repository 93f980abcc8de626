package tenant

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// memory is the whole configuration as of one version. Rows are replaced, never changed in place, so that snapshots may point at
// them. It is guarded by Directory.mu.
type memory struct {
	version       int64
	organizations map[api.OrganizationID]*store.Organization
	applications  map[api.ApplicationID]*store.Application
	keys          map[string]*store.Key // by public id
	denials       map[denial]api.Millis // until when

	// The indexes name rows that are in the maps above: each application once in byOrganization and numbers, and in publishable.
	byOrganization map[api.OrganizationID]map[api.ApplicationID]bool
	numbers        map[string]api.ApplicationID
	// publishable is keyed by a hash, so that how long a look-up takes says nothing about the keys.
	publishable map[[sha256.Size]byte]api.ApplicationID
}

type denial struct {
	application api.ApplicationID
	token       string
}

func newMemory() memory {
	return memory{
		organizations:  map[api.OrganizationID]*store.Organization{},
		applications:   map[api.ApplicationID]*store.Application{},
		keys:           map[string]*store.Key{},
		denials:        map[denial]api.Millis{},
		byOrganization: map[api.OrganizationID]map[api.ApplicationID]bool{},
		numbers:        map[string]api.ApplicationID{},
		publishable:    map[[sha256.Size]byte]api.ApplicationID{},
	}
}

// take takes changes over and returns the applications that they concern, those of changed organizations included.
func (m *memory) take(changes store.Changes) []*store.Application {
	concerned := map[api.ApplicationID]bool{}
	for _, row := range changes.Organizations {
		m.organizations[row.ID] = &row
		for id := range m.byOrganization[row.ID] {
			concerned[id] = true
		}
	}
	// Two applications may have swapped their numbers: all old entries go before any new one comes.
	for _, row := range changes.Applications {
		if old := m.applications[row.ID]; old != nil {
			delete(m.numbers, old.Number)
			delete(m.publishable, sha256.Sum256([]byte(old.PublishableKey)))
			delete(m.byOrganization[old.Organization], row.ID)
		}
	}
	for _, row := range changes.Applications {
		// What was read before another node told of a revocation (Heed) does not undo it; an older copy of the database does.
		if old := m.applications[row.ID]; old != nil && old.Version > row.Version && changes.Version >= m.version {
			row.Epoch, row.RevokedAt, row.RevokedBy, row.RevokedReason = old.Epoch, old.RevokedAt, old.RevokedBy, old.RevokedReason
			row.Version = old.Version
		}
		m.applications[row.ID] = &row
		m.numbers[row.Number] = row.ID
		m.publishable[sha256.Sum256([]byte(row.PublishableKey))] = row.ID
		if m.byOrganization[row.Organization] == nil {
			m.byOrganization[row.Organization] = map[api.ApplicationID]bool{}
		}
		m.byOrganization[row.Organization][row.ID] = true
		concerned[row.ID] = true
	}
	for _, row := range changes.Keys {
		m.keys[row.PublicID] = &row
	}
	m.deny(changes.Denials)
	m.version = changes.Version
	apps := make([]*store.Application, 0, len(concerned))
	for id := range concerned {
		apps = append(apps, m.applications[id])
	}
	return apps
}

func (m *memory) deny(denials []store.Denial) {
	for _, row := range denials {
		key := denial{row.Application, row.TokenID}
		m.denials[key] = max(m.denials[key], row.ExpiresAt)
	}
}

func (m *memory) purge(before api.Millis) {
	for key, until := range m.denials {
		if until < before {
			delete(m.denials, key)
		}
	}
}

func (m *memory) allApplications() []*store.Application {
	apps := make([]*store.Application, 0, len(m.applications))
	for _, row := range m.applications {
		apps = append(apps, row)
	}
	return apps
}

// application returns the snapshot of an application that exists.
func (m *memory) application(id api.ApplicationID) Application {
	app := Application{Application: *m.applications[id]}
	app.AllowedOrigins = slices.Clone(app.AllowedOrigins)
	if org := m.organizations[app.Organization]; org != nil {
		app.Plan = clonePlan(org.Plan)
	}
	return app
}

// resolve finds an application by id or number.
func (m *memory) resolve(ref string) (Application, bool) {
	id, err := api.ParseID[api.Application](ref)
	if err != nil {
		id = m.numbers[ref] // the nil id when there is none, which no application has
	}
	if m.applications[id] == nil {
		return Application{}, false
	}
	return m.application(id), true
}

// byPublishableKey finds an application by its publishable key, in constant time for keys of equal length.
func (m *memory) byPublishableKey(key string) (Application, bool) {
	row := m.applications[m.publishable[sha256.Sum256([]byte(key))]]
	if row == nil || subtle.ConstantTimeCompare([]byte(row.PublishableKey), []byte(key)) != 1 {
		return Application{}, false
	}
	return m.application(row.ID), true
}

func clonePlan(p api.Plan) api.Plan {
	if p.MaxAuthorizedSessions != nil {
		p.MaxAuthorizedSessions = new(*p.MaxAuthorizedSessions)
	}
	return p
}
