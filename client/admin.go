package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/rollcallhq/rollcall/api"
)

// Admin calls the routes that take the server's admin token.
type Admin struct{ caller }

// NewAdmin checks the configuration. Nothing is sent.
func NewAdmin(cfg ManageConfig) (*Admin, error) {
	c, err := newCaller(cfg)
	return &Admin{c}, err
}

// OrganizationInput creates or changes an organization; nil fields stay as they are, or get the server's default.
type OrganizationInput struct {
	ID   *api.OrganizationID `json:"id,omitempty"` // at creation
	Name *string             `json:"name,omitempty"`
	Plan *PlanInput          `json:"plan,omitempty"` // replaces the plan whole
}

// PlanInput is a plan. Nil: unlimited sessions, live session overview, the server's default retention.
type PlanInput struct {
	Name                  string        `json:"name"`
	MaxAuthorizedSessions *int          `json:"maxAuthorizedSessions,omitempty"`
	LiveSessionsOverview  *bool         `json:"liveSessionsOverview,omitempty"`
	HistoryRetention      *api.Duration `json:"historyRetention,omitempty"`
}

// KeyInput creates or changes an API key; nil fields stay as they are. At creation a nil Applications is all of them, and a nil
// ExpiresAt is never.
type KeyInput struct {
	Name         *string
	Scopes       []api.Scope
	Applications []api.ApplicationID
	ExpiresAt    *api.Timestamp

	AllApplications bool // instead of Applications: takes a list away
	NeverExpires    bool // instead of ExpiresAt: takes an expiry away
}

// MarshalJSON leaves out what stays, and writes null for what is taken away.
func (in KeyInput) MarshalJSON() ([]byte, error) {
	body := map[string]any{}
	if in.Name != nil {
		body["name"] = *in.Name
	}
	if in.Scopes != nil {
		body["scopes"] = in.Scopes
	}
	switch {
	case in.AllApplications:
		body["applications"] = nil
	case in.Applications != nil:
		body["applications"] = in.Applications
	}
	switch {
	case in.NeverExpires:
		body["expiresAt"] = nil
	case in.ExpiresAt != nil:
		body["expiresAt"] = *in.ExpiresAt
	}
	return json.Marshal(body)
}

// Organizations returns all organizations, oldest first.
func (a *Admin) Organizations(ctx context.Context) ([]api.Organization, error) {
	list, err := get[api.OrganizationList](ctx, a.caller, "admin/organizations", nil)
	return list.Items, err
}

// Organization returns one organization.
func (a *Admin) Organization(ctx context.Context, id api.OrganizationID) (api.Organization, error) {
	return get[api.Organization](ctx, a.caller, organizationPath(id), nil)
}

// CreateOrganization creates an organization.
func (a *Admin) CreateOrganization(ctx context.Context, in OrganizationInput) (api.Organization, error) {
	return send[api.Organization](ctx, a.caller, http.MethodPost, "admin/organizations", in)
}

// PatchOrganization changes an organization.
func (a *Admin) PatchOrganization(ctx context.Context, id api.OrganizationID, in OrganizationInput) (api.Organization, error) {
	return send[api.Organization](ctx, a.caller, http.MethodPatch, organizationPath(id), in)
}

// Applications returns an organization's applications, by number.
func (a *Admin) Applications(ctx context.Context, org api.OrganizationID) ([]api.Application, error) {
	list, err := get[api.ApplicationList](ctx, a.caller, organizationPath(org)+"/applications", nil)
	return list.Items, err
}

// CreateApplication creates an application of the organization.
func (a *Admin) CreateApplication(ctx context.Context, org api.OrganizationID, in ApplicationInput) (api.Application, error) {
	return send[api.Application](ctx, a.caller, http.MethodPost, organizationPath(org)+"/applications", in)
}

// Application returns an application with its session counts.
func (a *Admin) Application(ctx context.Context, app api.ApplicationID) (api.Application, error) {
	return get[api.Application](ctx, a.caller, "admin/applications/"+app.String(), nil)
}

// PatchApplication changes an application. State paused ends its sessions.
func (a *Admin) PatchApplication(ctx context.Context, app api.ApplicationID, in ApplicationInput) (api.Application, error) {
	return send[api.Application](ctx, a.caller, http.MethodPatch, "admin/applications/"+app.String(), in)
}

// ArchiveApplication archives an application, which ends its sessions, revokes their tokens and is final.
func (a *Admin) ArchiveApplication(ctx context.Context, app api.ApplicationID) error {
	return a.call(ctx, http.MethodDelete, "admin/applications/"+app.String(), nil, nil, nil)
}

// Keys returns an organization's API keys, oldest first.
func (a *Admin) Keys(ctx context.Context, org api.OrganizationID) ([]api.APIKey, error) {
	list, err := get[api.APIKeyList](ctx, a.caller, organizationPath(org)+"/api-keys", nil)
	return list.Items, err
}

// CreateKey creates an API key. The answer is the one time that its plaintext is shown.
func (a *Admin) CreateKey(ctx context.Context, org api.OrganizationID, in KeyInput) (api.NewAPIKey, error) {
	return send[api.NewAPIKey](ctx, a.caller, http.MethodPost, organizationPath(org)+"/api-keys", in)
}

// Key returns an API key.
func (a *Admin) Key(ctx context.Context, publicID string) (api.APIKey, error) {
	return get[api.APIKey](ctx, a.caller, keyPath(publicID), nil)
}

// PatchKey changes an API key.
func (a *Admin) PatchKey(ctx context.Context, publicID string, in KeyInput) (api.APIKey, error) {
	return send[api.APIKey](ctx, a.caller, http.MethodPatch, keyPath(publicID), in)
}

// RevokeKey revokes an API key, which is final and ends its streams.
func (a *Admin) RevokeKey(ctx context.Context, publicID string) error {
	return a.call(ctx, http.MethodDelete, keyPath(publicID), nil, nil, nil)
}

// Audit returns one answer of the list of an organization's audit records, newest first.
func (a *Admin) Audit(ctx context.Context, org api.OrganizationID, q AuditQuery) (api.AuditList, error) {
	return get[api.AuditList](ctx, a.caller, organizationPath(org)+"/audit", q.values())
}

func organizationPath(id api.OrganizationID) string { return "admin/organizations/" + id.String() }

func keyPath(publicID string) string { return "admin/api-keys/" + url.PathEscape(publicID) }
