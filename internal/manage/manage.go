// Package manage is the management API: both dialects, live streams, admin routes, and the ops listener. It owns what operators and
// backends see: validation, the order of checks, error envelopes, encodings.
//
// It promises: no call changes anything before every check has passed; a stream is refused before the upgrade with the same HTTP
// error as a plain request; a stream whose key or plan loses its access ends within a second (G7); nothing internal is told. Handlers
// are safe for concurrent use.
package manage

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// Owner ends sessions wherever in the cluster they are connected.
type Owner interface {
	// Disconnect ends one session; false when it is not a live session of the application. An owner that cannot be reached is
	// unavailable.
	Disconnect(ctx context.Context, app api.ApplicationID, id api.ServerID, by tenant.Actor, reason string) (bool, error)
	// DisconnectMatching ends the sessions, of all nodes, that match the query's search now and matched it at the end of the
	// millisecond at, and returns how many, and whether every node has said so.
	DisconnectMatching(ctx context.Context, q registry.Query, at api.Millis, by tenant.Actor, reason string) (n int, whole bool, err error)
	// Revoke ends all sessions of the application and returns how many, and whether every node has said so (G4).
	Revoke(ctx context.Context, app api.ApplicationID, by tenant.Actor, reason string) (n int, whole bool, err error)
}

// Config configures New.
type Config struct {
	Registry   *registry.Registry    // required
	Tenants    *tenant.Directory     // required
	Records    *store.Recorder       // required
	Owner      Owner                 // required
	Leases     Leases                // required
	AdminToken string                // required; compared in constant time. "" = nobody is the admin
	Log        *slog.Logger          // nil = discard
	Metrics    prometheus.Registerer // nil = none
	Limits     Limits
	Room       func() bool // whether the node can keep one more stream; nil = always
	// Missing returns the nodes of which not all rows are here: answers are partial while there are any. nil = the node is alone.
	Missing func() []string
}

// Limits are the management API's numbers; zero values give the defaults of package api.
type Limits struct {
	StreamsPerKey     int
	RequestsPerSecond float64
	RequestBurst      int
	MaxBody           int           // bytes
	StreamPing        time.Duration // 0 = DefaultStreamPing
	StreamIdle        time.Duration // without a pong and without write progress; 0 = DefaultStreamIdle
}

// The defaults of Limits that package api does not have.
const (
	DefaultStreamPing = 30 * time.Second
	DefaultStreamIdle = 120 * time.Second // page 2
)

func (l *Limits) defaults() {
	if l.StreamsPerKey == 0 {
		l.StreamsPerKey = api.MaxStreamsPerKey
	}
	if l.RequestsPerSecond == 0 {
		l.RequestsPerSecond = api.RequestsPerSecond
	}
	if l.RequestBurst == 0 {
		l.RequestBurst = api.RequestBurst
	}
	if l.MaxBody == 0 {
		l.MaxBody = api.MaxBody
	}
	if l.StreamPing == 0 {
		l.StreamPing = DefaultStreamPing
	}
	if l.StreamIdle == 0 {
		l.StreamIdle = DefaultStreamIdle
	}
}

// API serves the management API.
type API struct {
	registry *registry.Registry
	tenants  *tenant.Directory
	records  *store.Recorder
	owner    Owner
	leases   Leases
	admin    [sha256.Size]byte // of the admin token, so that comparing takes the same time whatever the length of a guess
	noAdmin  bool
	log      *slog.Logger
	metrics  *metrics
	limits   Limits
	room     func() bool
	missing  func() []string
	mux      *http.ServeMux
	rates    rates
	charts   charts
	streams  streams

	clustered bool // there may be other nodes
}

// New returns the API.
func New(cfg Config) *API {
	cfg.Limits.defaults()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{
		registry: cfg.Registry, tenants: cfg.Tenants, records: cfg.Records, owner: cfg.Owner, leases: cfg.Leases,
		admin: sha256.Sum256([]byte(cfg.AdminToken)), noAdmin: cfg.AdminToken == "",
		log: cfg.Log, metrics: newMetrics(cfg.Metrics, cfg.Limits), limits: cfg.Limits, room: cfg.Room,
		missing: cfg.Missing, clustered: cfg.Missing != nil,
	}
	if a.missing == nil {
		a.missing = func() []string { return nil }
	}
	if a.room == nil {
		a.room = func() bool { return true }
	}
	a.mux = a.routes()
	return a
}
