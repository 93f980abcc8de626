package api

import "encoding/json"

// Session protocol, page 3 of the specification.

// Subprotocol is the WebSocket subprotocol of GET /api/v1/connect.
const Subprotocol = "rollcall.session.v1"

// Types of the session protocol's frames.
const (
	TypeHello         = "hello"
	TypeWelcome       = "welcome"
	TypeAuthorize     = "authorize"
	TypeAuthorized    = "authorized"
	TypeTokenExpiring = "token_expiring"
	TypeUpdate        = "update"
	TypeActivity      = "activity"
	TypeBye           = "bye"
	TypeDisconnect    = "disconnect"
)

// Hello is the client's first frame. Token or PublishableKey is the credential; `Authorization: Bearer` on the upgrade serves in
// place of Token. Application (id or number) may be left out when the credential names it.
type Hello struct {
	Type           string          `json:"type"`
	Token          string          `json:"token,omitempty"`
	PublishableKey string          `json:"publishableKey,omitempty"`
	Application    string          `json:"application,omitempty"`
	ClientID       string          `json:"clientId,omitempty"`
	Name           string          `json:"name,omitempty"`
	Hostname       string          `json:"hostname,omitempty"`
	UserAgent      string          `json:"userAgent,omitempty"`
	ClientInfo     json.RawMessage `json:"clientInfo,omitempty"`
}

// Welcome answers hello: the session is open, listed and recorded.
type Welcome struct {
	Type           string     `json:"type"`
	SessionID      SessionID  `json:"sessionId"`
	ServerID       ServerID   `json:"serverId"`
	Authorized     bool       `json:"authorized"`
	TokenExpiresAt *Timestamp `json:"tokenExpiresAt,omitempty"`
	PingIntervalMs int64      `json:"pingIntervalMs"`
}

// Authorize authorizes an unauthorized session, or renews its token.
type Authorize struct {
	Type  string `json:"type"`
	Token string `json:"token"`
}

// TokenNotice is an authorized or token_expiring frame.
type TokenNotice struct {
	Type           string    `json:"type"`
	TokenExpiresAt Timestamp `json:"tokenExpiresAt"`
}

// Update changes what is shown of the session; a nil field stays as it is.
type Update struct {
	Type       string          `json:"type"`
	Name       *string         `json:"name,omitempty"`
	Hostname   *string         `json:"hostname,omitempty"`
	ClientInfo json.RawMessage `json:"clientInfo,omitempty"`
}

// Disconnect is the last frame of a session that the server ends; the close frame follows with the same code.
type Disconnect struct {
	Type           string    `json:"type"`
	Code           CloseCode `json:"code"`
	Reason         string    `json:"reason"`
	Reauthenticate bool      `json:"reauthenticate"`
	Reconnect      bool      `json:"reconnect"`
	RetryAfterMs   int64     `json:"retryAfterMs,omitempty"`
}

// FrameError says that a frame was refused; the session goes on, unless a disconnect follows.
type FrameError struct {
	Type    string `json:"type"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// CloseCode is the code of a WebSocket close frame.
type CloseCode uint16

// Close codes of the session protocol; the 1xxx codes are of RFC 6455, section 7.4.1.
const (
	CloseNormal             CloseCode = 1000
	CloseGoingAway          CloseCode = 1001 // node is draining
	CloseProtocolError      CloseCode = 1002
	CloseInvalidPayload     CloseCode = 1007
	ClosePolicy             CloseCode = 1008 // streams: key, plan or application no longer allows it
	CloseTooBig             CloseCode = 1009
	CloseTryAgainLater      CloseCode = 1013
	CloseDisconnected       CloseCode = 4100
	CloseApplicationPaused  CloseCode = 4101
	CloseApplicationArchive CloseCode = 4102
	CloseRevoked            CloseCode = 4103
	CloseTokenExpired       CloseCode = 4105
	CloseNotHello           CloseCode = 4200
	CloseTooManyFrames      CloseCode = 4201
	CloseHelloTimeout       CloseCode = 4202
	CloseCredentialRefused  CloseCode = 4203
	CloseQuotaExceeded      CloseCode = 4206
	CloseMalformed          CloseCode = 4300
	CloseBadHello           CloseCode = 4302
	CloseBinary             CloseCode = 4304
)

// advice is what a client should do after a close code.
type advice struct {
	reason                    string
	reconnect, reauthenticate bool
}

var closes = map[CloseCode]advice{
	CloseGoingAway:          {"node is draining", true, false},
	CloseTryAgainLater:      {"too much at once", true, false},
	CloseDisconnected:       {"disconnected by an operator", true, true},
	CloseApplicationPaused:  {"application paused", false, false},
	CloseApplicationArchive: {"application archived", false, false},
	CloseRevoked:            {"all sessions revoked", true, true},
	CloseTokenExpired:       {"token expired", true, true},
	CloseNotHello:           {"first frame is not hello", true, false},
	CloseTooManyFrames:      {"too many frames", true, false},
	CloseHelloTimeout:       {"no hello within 15 s", true, false},
	CloseCredentialRefused:  {"credential refused", true, true},
	CloseQuotaExceeded:      {"sessions_quota_exceeded", true, false},
	CloseMalformed:          {"frame is not a JSON object with a type", false, false},
	CloseBadHello:           {"hello has a field of the wrong type or out of range", false, false},
	CloseBinary:             {"binary frames are not accepted", false, false},
	CloseTooBig:             {"frame is larger than 16 KiB", false, false},
	CloseProtocolError:      {"protocol error", false, false},
	CloseInvalidPayload:     {"text frame is not valid UTF-8", false, false},
}

// NewDisconnect returns the disconnect frame for code with the advice of page 3's table. An empty reason gives the table's.
func NewDisconnect(code CloseCode, reason string, retryAfterMs int64) Disconnect {
	a := closes[code]
	if reason == "" {
		reason = a.reason
	}
	return Disconnect{Type: TypeDisconnect, Code: code, Reason: reason, Reauthenticate: a.reauthenticate, Reconnect: a.reconnect,
		RetryAfterMs: retryAfterMs}
}

// EndReason is why a session ended; it is recorded, shown and counted.
type EndReason string

// The reasons of page 3, "What ends a session".
const (
	EndClientClosed        EndReason = "client_closed"
	EndConnectionLost      EndReason = "connection_lost"
	EndPingTimeout         EndReason = "ping_timeout"
	EndLeaseExpired        EndReason = "lease_expired"
	EndTokenExpired        EndReason = "token_expired"
	EndDisconnected        EndReason = "disconnected"
	EndRevoked             EndReason = "revoked"
	EndApplicationPaused   EndReason = "application_paused"
	EndApplicationArchived EndReason = "application_archived"
	EndRateLimited         EndReason = "rate_limited"
	EndProtocolError       EndReason = "protocol_error"
	EndNodeDraining        EndReason = "node_draining"
	EndServerStopped       EndReason = "server_stopped"
	EndNodeLost            EndReason = "node_lost"
)

// EndReasons lists every reason, in the order in which messages name them.
var EndReasons = []EndReason{EndClientClosed, EndConnectionLost, EndPingTimeout, EndLeaseExpired, EndTokenExpired, EndDisconnected,
	EndRevoked, EndApplicationPaused, EndApplicationArchived, EndRateLimited, EndProtocolError, EndNodeDraining, EndServerStopped,
	EndNodeLost}
