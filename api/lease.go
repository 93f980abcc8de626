package api

import "encoding/json"

// The HTTP lease, page 3 of the specification: a session that requests hold.

// LeaseReply answers POST /sessions: the session is open, listed and recorded. A heartbeat every HeartbeatSeconds keeps it.
type LeaseReply struct {
	Session          Session `json:"session"`
	HeartbeatSeconds int     `json:"heartbeatSeconds"`
}

// EndedError answers requests for a session that has ended (410).
type EndedError struct {
	Message        string    `json:"message"`
	StatusCode     int       `json:"statusCode"`
	Code           Code      `json:"code"` // session_ended
	Reason         EndReason `json:"reason"`
	Reauthenticate bool      `json:"reauthenticate"`
}

// Reauthenticate tells whether a client whose session ended so must authenticate again before it opens another.
func (r EndReason) Reauthenticate() bool {
	return r == EndDisconnected || r == EndRevoked || r == EndTokenExpired
}

// Batch leases, page 3: servers report the sessions of their own clients.

// Limits of POST /applications/{id}/leases:batch.
const (
	MaxBatchItems   = 500
	MaxBatchBody    = 4 << 20 // bytes: 500 items of the largest size
	MaxBatchWait    = 20      // seconds
	MaxBatchEnded   = 1000    // ids in one answer
	MaxCredentialID = 256     // bytes
	MaxReporter     = 64      // characters
)

// LeaseOp is what an item of a batch does.
type LeaseOp string

// The operations of page 3.
const (
	LeaseOpen      LeaseOp = "open"
	LeaseHeartbeat LeaseOp = "heartbeat"
	LeaseEnd       LeaseOp = "end"
)

// LeaseBatch reports up to MaxBatchItems sessions. Reporter tells reporters apart that share an API key: each is told of the ends of
// the sessions that it reported. WaitSeconds holds the answer back until there is an end to tell, or that time has passed.
type LeaseBatch struct {
	Items       []LeaseItem `json:"items"`
	Reporter    string      `json:"reporter,omitempty"`
	WaitSeconds int         `json:"waitSeconds,omitempty"`
}

// LeaseItem is one operation on one session. Only open takes what describes the session; heartbeat takes LastActiveAt, LeaseSeconds and
// a CredentialID that the client has come to authenticate with. Open needs IPAddress and Authorized. Opening a session that is open is a
// heartbeat.
type LeaseItem struct {
	Op           LeaseOp         `json:"op"`
	ID           SessionID       `json:"id"` // chosen by the reporter
	IPAddress    string          `json:"ipAddress,omitempty"`
	Login        string          `json:"login,omitempty"`
	License      string          `json:"license,omitempty"`
	ClientID     string          `json:"clientId,omitempty"`
	Authorized   bool            `json:"authorized"`
	CredentialID string          `json:"credentialId,omitempty"` // names what the client authenticated with
	Hostname     string          `json:"hostname,omitempty"`
	UserAgent    string          `json:"userAgent,omitempty"`
	ClientInfo   json.RawMessage `json:"clientInfo,omitempty"`
	LastActiveAt *Timestamp      `json:"lastActiveAt,omitempty"`
	LeaseSeconds int             `json:"leaseSeconds,omitempty"` // 0 = 90 for a new session, else as it was
}

// LeaseBatchReply has one result an item, in their order, and the sessions of this reporter that ended since its last call for another
// reason than its own end.
type LeaseBatchReply struct {
	Results []LeaseResult `json:"results"`
	Ended   []LeaseEnded  `json:"ended"`
}

// LeaseResult is what became of an item. ID is null when the item has none that can be read.
type LeaseResult struct {
	ID    *SessionID  `json:"id"`
	OK    bool        `json:"ok"`
	Error *LeaseError `json:"error,omitempty"`
}

// LeaseError is why an item was refused. Reason and Reauthenticate are there with session_ended.
type LeaseError struct {
	Code           Code      `json:"code"`
	Message        string    `json:"message"`
	Reason         EndReason `json:"reason,omitempty"`
	Reauthenticate bool      `json:"reauthenticate,omitempty"`
}

// LeaseEnded is a session that has ended.
type LeaseEnded struct {
	ID             SessionID `json:"id"`
	Reason         EndReason `json:"reason"`
	Reauthenticate bool      `json:"reauthenticate"`
}
