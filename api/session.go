package api

import "encoding/json"

// Sessions dialect: shared/seeds/sessions.txt, settled by page 2 of the specification.

// Status is the state of a session's transport.
type Status string

// The two values of Status.
const (
	StatusActive       Status = "active"
	StatusDisconnected Status = "disconnected"
)

// DerivedStatus is computed when a session is shown: the first that holds of disconnected, expired, idle, active.
type DerivedStatus string

// The values of DerivedStatus.
const (
	DerivedActive       DerivedStatus = "active"
	DerivedIdle         DerivedStatus = "idle"
	DerivedExpired      DerivedStatus = "expired"
	DerivedDisconnected DerivedStatus = "disconnected"
)

// Session is a session as the Sessions dialect shows it. Pointers with omitempty are left out when unknown; the others are null.
type Session struct {
	ID             SessionID       `json:"id"`
	Name           string          `json:"name"`
	Status         Status          `json:"status"`
	DerivedStatus  DerivedStatus   `json:"derivedStatus"`
	TokenExpiresAt *Timestamp      `json:"tokenExpiresAt,omitempty"`
	LastActiveAt   *Timestamp      `json:"lastActiveAt,omitempty"`
	ConnectedAt    *Timestamp      `json:"connectedAt,omitempty"`
	DisconnectedAt *Timestamp      `json:"disconnectedAt,omitempty"`
	CreatedAt      Timestamp       `json:"createdAt"`
	AgentID        ApplicationID   `json:"agentId"`
	OrganizationID OrganizationID  `json:"organizationId"`
	Hostname       *string         `json:"hostname"`
	UserAgent      *string         `json:"userAgent"`
	ClientInfo     json.RawMessage `json:"clientInfo"` // nil is written as null
	Details        *Details        `json:"details,omitempty"`
}

// Details is what details=true adds to a Session. EndReason, EndedBy and Reason are left out while the session is live, or unknown.
type Details struct {
	ServerID   ServerID  `json:"serverId"`
	IPAddress  string    `json:"ipAddress"`
	Login      *string   `json:"login"`
	License    *string   `json:"license"`
	ClientID   string    `json:"clientId"`
	Authorized bool      `json:"authorized"`
	EndReason  EndReason `json:"endReason,omitempty"`
	EndedBy    string    `json:"endedBy,omitempty"`
	Reason     string    `json:"reason,omitempty"`
}

// SessionList is the answer of GET /applications/{id}/sessions. NextCursor is there when there is more.
type SessionList struct {
	Items      []Session `json:"items"`
	NextCursor string    `json:"nextCursor,omitempty"`
}

// DisconnectPreview is the answer of a dry run of POST /applications/{id}/sessions:disconnect: how many sessions match, and the time
// that the act is to be given, so that it ends only sessions that match at both moments.
type DisconnectPreview struct {
	DryRun        bool      `json:"dryRun"`
	Count         int       `json:"count"`
	CreatedBefore Timestamp `json:"createdBefore"`
}

// DisconnectInput is the body of POST /applications/{id}/sessions:disconnect. Categories nil is license; CreatedBefore may be nil in a
// dry run alone.
type DisconnectInput struct {
	SearchString  string     `json:"searchString"`
	Categories    []Category `json:"categories,omitempty"`
	Reason        string     `json:"reason,omitempty"`
	CreatedBefore *Timestamp `json:"createdBefore,omitempty"`
}

// Series is the answer of GET /applications/{id}/series: the last sixty whole minutes and the running one, oldest first.
type Series struct {
	StepSeconds int          `json:"stepSeconds"`
	Items       []SeriesItem `json:"items"`
}

// SeriesItem is a minute: when it began, how many sessions were live at its end (now, for the running one), and how many came and went
// in it.
type SeriesItem struct {
	Time     Timestamp `json:"time"`
	Live     int       `json:"live"`
	Connects int       `json:"connects"`
	Ends     int       `json:"ends"`
}

// SessionReply is the answer of GET /applications/{id}/sessions/{sessionId}.
type SessionReply struct {
	Session Session `json:"session"`
}

// DisconnectResult is the answer of both DELETE routes: the number of sessions that the call ended.
type DisconnectResult struct {
	Success           bool `json:"success"`
	DisconnectedCount int  `json:"disconnectedCount"`
}
