package api

// Live Sessions dialect: shared/seeds/live-sessions.txt, settled by page 2 of the specification.

// RoutePrefix is the path under which every route of the management API and of the session protocol lives.
const RoutePrefix = "/api/v1"

// Paths of the Live Sessions dialect and of the session protocol's WebSocket.
const (
	LivePath    = RoutePrefix + "/wss/get-application-sessions"
	ConnectPath = RoutePrefix + "/connect"
	// SessionsPath is where a client without a connection opens a session; /{sessionId} below it is the session.
	SessionsPath = RoutePrefix + "/sessions"

	// ApplicationHeader of the Live Sessions list is the application's id, whichever way the request named it.
	ApplicationHeader = "Rollcall-Application"
)

// Row is one live session as the Live Sessions dialect shows it. Login and License are null when the session has none; ClientID
// is the session's id when the client gave none.
type Row struct {
	ServerID  ServerID `json:"serverId"`
	IPAddress string   `json:"ipAddress"`
	CreatedAt Millis   `json:"createdAt"`
	ClientID  string   `json:"clientId"`
	Login     *string  `json:"login"`
	License   *string  `json:"license"`
}

// Position returns the row's place in every list.
func (r Row) Position() Position { return Position{CreatedAt: r.CreatedAt, ServerID: r.ServerID} }

// Category is a column that a search looks at.
type Category string

// The categories of the Live Sessions document.
const (
	CategoryLicense  Category = "license"
	CategoryIP       Category = "ip"
	CategoryClientID Category = "clientId"
)

// Counts are the numbers that go with a page. AuthorizedSessionCount is of the whole organization.
type Counts struct {
	Total                  int `json:"total"`
	FilteredTotal          int `json:"filteredTotal"`
	AuthorizedSessionCount int `json:"authorizedSessionCount"`
}

// View is a page of live sessions with its counts: the common part of LiveList and Init.
type View struct {
	Counts
	LastConnectionTime Millis `json:"lastConnectionTime"`
	Items              []Row  `json:"items"`
	Page               int    `json:"page"`
	PageSize           int    `json:"pageSize"`
}

// LiveList is the answer of GET /wss/get-application-sessions.
type LiveList struct {
	Success bool   `json:"success"`
	Message string `json:"message"`
	View
}

// Types of the messages on a live stream.
const (
	TypeInit               = "init"
	TypeAdded              = "added"
	TypeUpdated            = "updated"
	TypeRemoved            = "removed"
	TypeLastConnectionTime = "last_connection_time"
	TypeTotals             = "totals"
	TypeError              = "error"
	TypeQuery              = "query"
	TypeDisconnectSession  = "disconnect_session"
)

// Init is the first message of a stream, and the answer to every query message.
type Init struct {
	Type    string `json:"type"`
	Success bool   `json:"success"`
	View
}

// RowMessage is an added or updated message.
type RowMessage struct {
	Type string `json:"type"`
	Row  Row    `json:"row"`
}

// RemovedMessage says that a row left the page.
type RemovedMessage struct {
	Type     string   `json:"type"`
	ServerID ServerID `json:"serverId"`
}

// LastConnectionTimeMessage says that a session of the application connected.
type LastConnectionTimeMessage struct {
	Type  string `json:"type"`
	Value Millis `json:"value"`
}

// TotalsMessage carries the counts to streams that asked for totals=true.
type TotalsMessage struct {
	Type string `json:"type"`
	Counts
	Partial string `json:"partial,omitempty"` // "nodes" when rows of other nodes are missing
}

// StreamError is sent on a stream for what cannot be obeyed, and before the server ends the stream.
type StreamError struct {
	Type    string `json:"type"`
	Success bool   `json:"success"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}
