package api

// ApplicationState tells whether an application takes sessions.
type ApplicationState string

// The states of an application. Archived is final.
const (
	ApplicationActive   ApplicationState = "active"
	ApplicationPaused   ApplicationState = "paused"
	ApplicationArchived ApplicationState = "archived"
)

// Scope is a permission of an API key; a key has none but those it was given.
type Scope string

// The scopes.
const (
	ScopeSessionsRead       Scope = "sessions:read"
	ScopeSessionsDisconnect Scope = "sessions:disconnect"
	ScopeSessionsCreate     Scope = "sessions:create"
	ScopeApplicationsRead   Scope = "applications:read"
	ScopeApplicationsWrite  Scope = "applications:write"
	ScopeAccountRead        Scope = "account:read"
	ScopeAuditRead          Scope = "audit:read"
)

// Scopes lists every scope, in the order in which messages name them.
var Scopes = []Scope{ScopeSessionsRead, ScopeSessionsDisconnect, ScopeSessionsCreate, ScopeApplicationsRead,
	ScopeApplicationsWrite, ScopeAccountRead, ScopeAuditRead}

// Plan is what an organization may do. MaxAuthorizedSessions is null when unlimited. HistoryRetention is how long ended sessions
// stay listed.
type Plan struct {
	Name                  string   `json:"name"`
	MaxAuthorizedSessions *int     `json:"maxAuthorizedSessions"`
	LiveSessionsOverview  bool     `json:"liveSessionsOverview"`
	HistoryRetention      Duration `json:"historyRetention"`
}

// Organization is a tenant, as the admin routes show it.
type Organization struct {
	ID        OrganizationID `json:"id"`
	Name      string         `json:"name"`
	Plan      Plan           `json:"plan"`
	CreatedAt Timestamp      `json:"createdAt"`
}

// Application is an application as the management API shows it. Its HS256 secret is never shown.
type Application struct {
	ID               ApplicationID    `json:"id"`
	Number           string           `json:"number"`
	Name             string           `json:"name"`
	State            ApplicationState `json:"state"`
	OrganizationID   OrganizationID   `json:"organizationId"`
	PublishableKey   string           `json:"publishableKey"`
	IdleAfter        Duration         `json:"idleAfter"`
	AllowedOrigins   []string         `json:"allowedOrigins"`
	StrictRevocation bool             `json:"strictRevocation"`
	Tokens           TokenSettings    `json:"tokens"`
	CreatedAt        Timestamp        `json:"createdAt"`
	Sessions         *SessionCounts   `json:"sessions,omitempty"` // on GET
}

// TokenSettings tell how an application's own session tokens are verified; tokens that Rollcall issues are always accepted.
type TokenSettings struct {
	HS256    bool   `json:"hs256"` // a secret is set
	JWKSURL  string `json:"jwksUrl,omitempty"`
	Issuer   string `json:"issuer,omitempty"`
	Audience string `json:"audience,omitempty"`
}

// SessionCounts counts an application's sessions. Live is every connected session (active, idle or expired), Total those and the
// ended ones that are still kept.
type SessionCounts struct {
	Active int `json:"active"`
	Idle   int `json:"idle"`
	Live   int `json:"live"`
	Total  int `json:"total"`
}

// ApplicationList is the answer of GET /applications.
type ApplicationList struct {
	Items []Application `json:"items"`
}

// OrganizationList is the answer of GET /admin/organizations.
type OrganizationList struct {
	Items []Organization `json:"items"`
}

// APIKeyList is the answer of GET /admin/organizations/{id}/api-keys.
type APIKeyList struct {
	Items []APIKey `json:"items"`
}

// TokenInput is the body of POST /applications/{id}/session-tokens. ExpiresIn is in seconds.
type TokenInput struct {
	Login     string `json:"login,omitempty"`
	License   string `json:"license,omitempty"`
	ClientID  string `json:"clientId,omitempty"`
	Name      string `json:"name,omitempty"`
	ExpiresIn int    `json:"expiresIn"`
}

// TokenReply is its answer.
type TokenReply struct {
	Token     string    `json:"token"`
	ExpiresAt Timestamp `json:"expiresAt"`
}

// Limit is a used and an allowed number; MaxValue is null when unlimited.
type Limit struct {
	CurrentValue int  `json:"currentValue"`
	MaxValue     *int `json:"maxValue"`
}

// AccountLimits is the answer of GET /account/limits.
type AccountLimits struct {
	PlanName           string `json:"planName"`
	AuthorizedSessions Limit  `json:"authorizedSessions"`
	Applications       Limit  `json:"applications"`
	APIKeys            Limit  `json:"apiKeys"`
}

// KeyState tells whether an API key can be used.
type KeyState string

// The states of an API key.
const (
	KeyActive  KeyState = "active"
	KeyExpired KeyState = "expired"
	KeyRevoked KeyState = "revoked"
)

// APIKey is a key as the admin routes show it: never its secret. Applications is null when it has all of them.
type APIKey struct {
	PublicID       string          `json:"publicId"`
	LastFour       string          `json:"lastFour"`
	Name           string          `json:"name"`
	OrganizationID OrganizationID  `json:"organizationId"`
	Scopes         []Scope         `json:"scopes"`
	Applications   []ApplicationID `json:"applications"`
	State          KeyState        `json:"state"`
	ExpiresAt      *Timestamp      `json:"expiresAt,omitempty"`
	RevokedAt      *Timestamp      `json:"revokedAt,omitempty"`
	LastUsedAt     *Timestamp      `json:"lastUsedAt,omitempty"`
	LastUsedIP     string          `json:"lastUsedIp,omitempty"`
	CreatedAt      Timestamp       `json:"createdAt"`
}

// NewAPIKey is the answer of creating a key: the one time that Key, the plaintext, is shown.
type NewAPIKey struct {
	APIKey
	Key string `json:"key"`
}
