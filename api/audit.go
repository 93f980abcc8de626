package api

import "encoding/json"

// AuditAction is what was done.
type AuditAction string

// The actions. ActionSessionsDisconnected is a disconnect by search, ActionSessionsRevoked a revoke-all.
const (
	ActionSessionDisconnected  AuditAction = "session.disconnected"
	ActionSessionsDisconnected AuditAction = "sessions.disconnected"
	ActionSessionsRevoked      AuditAction = "sessions.revoked"
	ActionApplicationCreated   AuditAction = "application.created"
	ActionApplicationUpdated   AuditAction = "application.updated"
	ActionApplicationPaused    AuditAction = "application.paused"
	ActionApplicationResumed   AuditAction = "application.resumed"
	ActionApplicationArchived  AuditAction = "application.archived"
	ActionKeyCreated           AuditAction = "api_key.created"
	ActionKeyUpdated           AuditAction = "api_key.updated"
	ActionKeyRevoked           AuditAction = "api_key.revoked"
	ActionOrganizationCreated  AuditAction = "organization.created"
	ActionOrganizationUpdated  AuditAction = "organization.updated"
	ActionTokenIssued          AuditAction = "session_token.issued"
	ActionSignIn               AuditAction = "sign_in"
	ActionSignOut              AuditAction = "sign_out"
)

// AuditActions lists every action, in the order in which messages name them.
var AuditActions = []AuditAction{ActionSessionDisconnected, ActionSessionsDisconnected, ActionSessionsRevoked, ActionApplicationCreated,
	ActionApplicationUpdated, ActionApplicationPaused, ActionApplicationResumed, ActionApplicationArchived, ActionKeyCreated,
	ActionKeyUpdated, ActionKeyRevoked, ActionOrganizationCreated, ActionOrganizationUpdated, ActionTokenIssued, ActionSignIn, ActionSignOut}

// ActorType is the kind of who made a change.
type ActorType string

// The kinds of actors. ActorBootstrap is the file of a declarative start.
const (
	ActorKey       ActorType = "api_key"
	ActorAdmin     ActorType = "admin"
	ActorBootstrap ActorType = "bootstrap"
)

// AuditActor is who made a change: an API key, as it was called then, the holder of the admin token, or the bootstrap file.
type AuditActor struct {
	Type     ActorType `json:"type"`
	PublicID string    `json:"publicId,omitempty"`
	Name     string    `json:"name,omitempty"`
}

// AuditID names an audit record.
type AuditID = ID[AuditRecord]

// AuditRecord is one management change. Target is what was changed, beside the application: the id of a session, application or
// organization, the public id of an API key, the login of a session token. Count is how many sessions ended; null where that was not
// counted. What Details has depends on the action.
type AuditRecord struct {
	ID            AuditID         `json:"id"`
	Time          Timestamp       `json:"time"`
	Action        AuditAction     `json:"action"`
	Actor         AuditActor      `json:"actor"`
	IPAddress     *string         `json:"ipAddress"`
	ApplicationID *ApplicationID  `json:"applicationId"`
	Target        *string         `json:"target"`
	Count         *int            `json:"count"`
	Reason        *string         `json:"reason"`
	Details       json.RawMessage `json:"details"` // an object; nil is written as null
}

// AuditList is the answer of GET /audit, newest first. NextCursor is there when there is more.
type AuditList struct {
	Items      []AuditRecord `json:"items"`
	NextCursor string        `json:"nextCursor,omitempty"`
}
