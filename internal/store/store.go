// Package store keeps in SQL what must outlast the process: organizations, applications, API keys, denials, server secrets, node
// rows, and a record of every session with its details. SQLite by default, PostgreSQL in a cluster; storetest holds both to the
// same contract. The Recorder in front of the records is a write queue with group commit that survives a database that is away.
//
// It promises: writes of records are idempotent upserts and never reopen a session that ended; a reader that looks in the
// registry, then in the Recorder never misses a session that just ended (G6); nothing here decides who may do what.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// Errors that callers tell apart. Everything else is trouble with the database.
var (
	// ErrConflict: a unique value (application id, number or publishable key, organization or key id) is taken.
	ErrConflict = errors.New("already taken")
	// ErrQueueFull: the write queue has reached its cap; nothing was queued.
	ErrQueueFull = errors.New("the record queue is full")
	// ErrClosed: the recorder has stopped.
	ErrClosed = errors.New("the recorder has stopped")
	// ErrRefused: the database refuses the values themselves, so that a retry is of no use. In a batch of records one of them is
	// the cause; none was written.
	ErrRefused = errors.New("the database refuses the values")
	// ErrLeaseLost: the incarnation was swept, or a newer one has its name.
	ErrLeaseLost = errors.New("the node's lease is lost")
	// ErrNameTaken is the ErrLeaseLost of a node whose name a newer incarnation has: of another process, which lives.
	ErrNameTaken = fmt.Errorf("%w: another process has the node's name", ErrLeaseLost)
)

// DB is an open database of either engine. Safe for concurrent use.
type DB interface {
	Config() Config
	Records() Records
	Nodes() Nodes
	Audits() AuditLog
	Close() error
}

// Organization is a row of configuration. Version is the configuration version at which it changed last.
type Organization struct {
	ID        api.OrganizationID
	Name      string
	Plan      api.Plan
	CreatedAt api.Millis
	Version   int64
}

// Application is a row of configuration. Epoch and RevokedAt are of the last revoke-all, RevokedBy and RevokedReason who and why.
type Application struct {
	ID               api.ApplicationID
	Organization     api.OrganizationID
	Number           string
	Name             string
	State            api.ApplicationState
	PublishableKey   string
	IdleAfter        time.Duration
	AllowedOrigins   []string
	StrictRevocation bool
	HS256Secret      string
	JWKSURL          string
	Issuer           string
	Audience         string
	Epoch            uint64
	RevokedAt        api.Millis
	RevokedBy        string
	RevokedReason    string
	StateBy          string     // who paused or archived it last
	LastConnection   api.Millis // written with the records, not by Edit; the maximum ever seen
	CreatedAt        api.Millis
	Version          int64
}

// Key is an API key's row. AllApplications false restricts it to Applications.
type Key struct {
	PublicID        string
	Organization    api.OrganizationID
	Name            string
	SecretHash      [32]byte // SHA-256 of the secret part
	LastFour        string
	Scopes          []api.Scope
	AllApplications bool
	Applications    []api.ApplicationID
	ExpiresAt       api.Millis // 0 = never
	RevokedAt       api.Millis // 0 = not revoked
	LastUsedAt      api.Millis // written by TouchKeys only, which raises no version
	LastUsedIP      string
	CreatedAt       api.Millis
	Version         int64
}

// KeyUse is the last use of a key.
type KeyUse struct {
	PublicID string
	At       api.Millis
	IP       string
}

// Denial refuses one token of one application until it expires. TokenID is "jti:…" or "sha256:…"; "sign-in:…" with the zero
// application is a sign-in that was signed out.
type Denial struct {
	Application api.ApplicationID
	TokenID     string
	ExpiresAt   api.Millis
}

// Changes is what changed after a version: whole rows, and every denial that was written since. Version is the newest.
type Changes struct {
	Version       int64
	Organizations []Organization
	Applications  []Application
	Keys          []Key
	Denials       []Denial
}

// Config is the configuration of tenants. Every Edit, and every write of denials, raises the one version row.
type Config interface {
	// Version returns the current version: one cheap read, for polling.
	Version(ctx context.Context) (int64, error)
	// Since returns what changed after version (0 = everything), read in one transaction.
	Since(ctx context.Context, version int64) (Changes, error)
	// Edit runs fn in one serialized write transaction; nothing is kept when fn returns an error, which Edit returns as it is, or
	// when a method of Tx failed. fn must use the Tx alone, and not after it returned: any other call on the database may wait for
	// the transaction that waits for it.
	Edit(ctx context.Context, fn func(Tx) error) error
	// TouchKeys writes last uses, keeping the later one.
	TouchKeys(ctx context.Context, uses []KeyUse) error
	// Secret returns the server secret of that name, storing fresh when there is none yet: created once, shared by all nodes.
	Secret(ctx context.Context, name string, fresh []byte) ([]byte, error)
	// Deny stores denials that go with no record.
	Deny(ctx context.Context, denials []Denial) error
	// Connections raises the applications' LastConnection to what was seen, and returns those that have one as they are then.
	Connections(ctx context.Context, seen map[api.ApplicationID]api.Millis) (map[api.ApplicationID]api.Millis, error)
	// Purge deletes denials that expired before now.
	Purge(ctx context.Context, now api.Millis) error
}

// Tx is a write transaction on the configuration. Get methods return nil when there is no such row. Put methods insert or replace
// the whole row (but LastConnection, LastUsed*) and stamp Version; ErrConflict, naming the field, when a unique value is taken by
// another row, or the id by another organization.
type Tx interface {
	Now() api.Millis // SQL's clock at the start of the transaction
	Organization(id api.OrganizationID) (*Organization, error)
	PutOrganization(Organization) error
	Application(id api.ApplicationID) (*Application, error)
	PutApplication(Application) error
	Key(publicID string) (*Key, error)
	PutKey(Key) error
	// Audit appends the record of a change in this transaction; its Time is Now.
	Audit(Audit) error
}

// Record is the durable row of a session. Application and ID name it. Text is kept byte for byte, whatever it holds; ClientInfo
// is not to be written to once the record was handed over.
type Record struct {
	ID           api.SessionID
	ServerID     api.ServerID
	Organization api.OrganizationID
	Application  api.ApplicationID
	Incarnation  int64 // of the owner, from Nodes.Claim
	CreatedAt    api.Millis
	IP           string
	ClientID     string // what is shown: the session id when the client gave none
	Login        string
	License      string
	Authorized   bool

	TokenExpiresAt api.Millis
	Name           string // as the client gave it; "" = compose one
	Hostname       string
	UserAgent      string
	ClientInfo     json.RawMessage // as the client wrote it; nil = none

	LastActiveAt api.Millis // written at the end only
	EndedAt      api.Millis // 0 = open
	EndReason    api.EndReason
	EndedBy      string // public id of the API key, or "admin"; "" when no operator did it
	EndText      string // the operator's reason

	Lease *Lease // nil for a session that is a connection
}

// Position returns the record's place in lists.
func (r *Record) Position() api.Position {
	return api.Position{CreatedAt: r.CreatedAt, ServerID: r.ServerID}
}

// EndFilter tells which ended records a list has. The zero value lets all through.
type EndFilter struct {
	Since   api.Millis      // ended at or after it; 0 = whenever
	Before  api.Millis      // ended before it; 0 = whenever
	Reasons []api.EndReason // ended for one of these; none = for any
	// Narrow says that few may match of many, and that these are to be looked for first.
	Narrow bool
}

// admits tells whether the filter lets an ended record through.
func (f *EndFilter) admits(rec *Record) bool {
	return rec.EndedAt >= f.Since && (f.Before == 0 || rec.EndedAt < f.Before) &&
		(len(f.Reasons) == 0 || slices.Contains(f.Reasons, rec.EndReason))
}

// Minute counts the sessions of one minute: of those that have ended, how many were created and how many ended in it.
type Minute struct {
	At       api.Millis // its beginning
	Connects int
	Ends     int
}

// Records is the table of session records.
type Records interface {
	// Write upserts a batch in one transaction: a row that has ended in SQL, or has a greater Lease.OwnerEpoch there, stays as it is,
	// the latter unless its client or an operator ended it;
	// but what a sweep has closed as node_lost or server_stopped is open again when a greater Incarnation writes it, for its owner
	// was not dead. It raises the applications' LastConnection to the newest CreatedAt, stores the denials, raises the version
	// when there are any, and appends the audit records, or fills in the counts of those that are there. ErrRefused when the database refuses a record's values, ErrLeaseLost when the Incarnation of one was swept:
	// then nothing was written.
	Write(ctx context.Context, records []Record, denials []Denial, audits ...Audit) error
	// Get returns the records of an application by id; those that are not there are missing.
	Get(ctx context.Context, app api.ApplicationID, ids []api.SessionID) (map[api.SessionID]Record, error)
	// Ended returns up to limit ended records that the filter lets through and that come after the position (nil = newest), in list
	// order.
	Ended(ctx context.Context, app api.ApplicationID, filter EndFilter, after *api.Position, limit int) ([]Record, error)
	// CountEnded counts an application's records that ended at or after since (0 = all), but those with the ids.
	CountEnded(ctx context.Context, app api.ApplicationID, since api.Millis, but ...api.SessionID) (int, error)
	// Minutes counts, for each of the minutes that begin at starts, which of an application's records that ended before until were
	// created and ended in it, but those with the ids.
	Minutes(ctx context.Context, app api.ApplicationID, starts []api.Millis, until api.Millis, but ...api.SessionID) ([]Minute, error)
	// Adopt makes the incarnation the owner of those of the leases that are still open, with the OwnerEpoch that they have here: a
	// compare-and-set of each, in one transaction. It returns these as they are then in SQL. ErrLeaseLost when the incarnation was
	// swept.
	Adopt(ctx context.Context, incarnation int64, leases []Record) ([]Record, error)
	// FindLease returns the application of the lease of that id, open or ended, that its client holds itself; the zero id when there
	// is none.
	FindLease(ctx context.Context, id api.SessionID) (api.ApplicationID, error)
	// Expire deletes up to limit records of the organization that ended before the time, and returns how many.
	Expire(ctx context.Context, org api.OrganizationID, endedBefore api.Millis, limit int) (int, error)
}

// Nodes is the table of nodes: who lives, and since when.
type Nodes interface {
	// Claim takes the name for a new incarnation, which is greater than all before it in this database.
	Claim(ctx context.Context, name string) (incarnation int64, err error)
	// Beat records a sign of life of the incarnation; ErrLeaseLost when it was swept, ErrNameTaken when a newer one has the name.
	Beat(ctx context.Context, name string, incarnation int64) error
	// Sweep closes the open records that no living node owns: of earlier incarnations of name as server_stopped, of other nodes
	// without a sign of life for lapse as node_lost, at their node's last sign of life (never before the record's CreatedAt). Leases
	// stay open, to be adopted, until api.LeaseMargin after they ran out without their node; then they are closed as lease_expired at
	// the moment when they ran out. It returns how many.
	Sweep(ctx context.Context, name string, incarnation int64, lapse time.Duration) (int, error)
	// Release ends an incarnation whose node has stopped, as a sweep does that finds it lapsed: its name is free, and it writes nothing
	// any more. What it left open is closed by the next sweep of whoever comes. Idempotent.
	Release(ctx context.Context, incarnation int64) error
	// Now returns the database's clock, which dates signs of life and revocations.
	Now(ctx context.Context) (api.Millis, error)
	// Living returns the nodes that gave a sign of life within lapse and were not swept, with their newest incarnations.
	Living(ctx context.Context, lapse time.Duration) (map[string]int64, error)
}
