// Package gateway holds the clients' ends of sessions: it speaks the session protocol (page 3 of the specification), keeps each
// session's row and record true, watches over liveness, token life and limits, and ends sessions so that the client hears of it.
//
// It promises: a welcome is sent after the record is durable (or the store is away); a session ends exactly once, with one reason;
// an operator's end denies the session's tokens before the client hears of it, and the disconnect frame precedes the close frame
// (G3); Apply returns when every session that it ended has left the registry and has been told (G4). All methods are safe for
// concurrent use.
//
// The protocol is a state machine, type session, that is given one message or one tick at a time and never reads; what feeds it
// is a driver: on Linux a place in the lot, where an idle session has neither goroutine nor buffer, elsewhere a goroutine. It does not decide who may do what (package tenant), nor what lists
// show (package registry).
package gateway

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// Config configures New.
type Config struct {
	Node     string                // required
	Registry *registry.Registry    // required
	Tenants  *tenant.Directory     // required; hand Apply to its OnApplication before serving
	Records  *store.Recorder       // required; it knows the node's incarnation
	Log      *slog.Logger          // nil = discard
	Metrics  prometheus.Registerer // nil = none
	Limits   Limits
	// CutOff tells whether the node can hear of a revocation neither from the database nor from another node: it opens no session then
	// for applications with strictRevocation (G4). nil = never.
	CutOff func() bool
	// Unparked gives every connection a goroutine, as where sockets cannot be parked. For tests and measurements.
	Unparked bool
	// Room tells whether the node can keep one more connection; nil = always.
	Room func() bool
	// Elsewhere reaches the leases of other nodes; nil = the node is alone.
	Elsewhere Elsewhere
}

// DefaultHellosInFlight keeps two cores busy with tokens while others of them wait for their record's commit.
const DefaultHellosInFlight = 256

// Leases need no descriptor, and so are bounded by what they cost in memory: some 2 KB each. An event stream needs one, and a goroutine.
const (
	DefaultMaxLeases    = 100_000
	DefaultEventStreams = 1000
)

// Limits are the session protocol's numbers; zero values give the defaults of package api.
type Limits struct {
	HelloTimeout          time.Duration
	PingInterval          time.Duration
	PongTimeout           time.Duration
	ExpiryNotice          time.Duration
	ExpiryGrace           time.Duration
	FramesPerMinute       int
	FrameBurst            int
	HellosInFlight        int // being verified and recorded at once; more wait. 0 = DefaultHellosInFlight
	MaxSessions           int // connections at once, those before their hello included; more get 503. 0 = unlimited
	ConnectionsPerAddress int // 0 = unlimited
	MaxFrame              int // bytes of a message; more is 1009
	MaxLeases             int // held at once; more get 503. 0 = DefaultMaxLeases
	EventStreams          int // of leases, open at once; more get 503. 0 = DefaultEventStreams
}

func (l Limits) withDefaults() Limits {
	l.HelloTimeout = cmp.Or(l.HelloTimeout, api.HelloTimeout)
	l.PingInterval = cmp.Or(l.PingInterval, api.PingInterval)
	l.PongTimeout = cmp.Or(l.PongTimeout, api.PongTimeout)
	l.ExpiryNotice = cmp.Or(l.ExpiryNotice, api.ExpiryNotice)
	l.ExpiryGrace = cmp.Or(l.ExpiryGrace, api.ExpiryGrace)
	l.FramesPerMinute = cmp.Or(l.FramesPerMinute, api.FramesPerMinute)
	l.FrameBurst = cmp.Or(l.FrameBurst, api.FrameBurst)
	l.HellosInFlight = cmp.Or(l.HellosInFlight, DefaultHellosInFlight)
	l.MaxFrame = cmp.Or(l.MaxFrame, api.MaxFrame)
	l.MaxLeases = cmp.Or(l.MaxLeases, DefaultMaxLeases)
	l.EventStreams = cmp.Or(l.EventStreams, DefaultEventStreams)
	return l
}

// tellers is how many sockets are written at once when many sessions end together. On plain TCP no write waits for the client;
// elsewhere one waits for at most a second.
const tellers = 512

// massEnd is how many sessions must end together for their records to be written only after their clients were told.
const massEnd = 500

// openWorkers is how many sessions are served at once, beside the hellos; most turns take microseconds, but an authorize waits for
// its record.
const openWorkers = 64

// Gateway is the clients' side of a node.
type Gateway struct {
	cfg     Config
	log     *slog.Logger
	limits  Limits
	metrics *metrics
	hellos  chan struct{}  // a token a hello in flight
	waiting atomic.Int64   // hellos that wait for one
	conns   sync.WaitGroup // admitted connections; grows only while draining is false

	stopping  chan struct{} // closed when draining becomes true
	leaseMux  *http.ServeMux
	reporters reporters
	elsewhere Elsewhere
	watched   atomic.Int64 // open event streams

	unreconciled []sessionKey // Reconcile's: what is left of a round

	lot    *lot
	poller *websock.Poller // nil where sockets cannot be parked

	mu        sync.Mutex
	draining  bool
	all       map[*session]struct{}         // every connection, before its hello too
	live      map[sessionKey]*session       // those whose row may be in the registry
	leases    map[sessionKey]*lease         // held, ended not long ago, or being opened or adopted
	own       map[api.SessionID]*lease      // of these, those that their clients hold: their ids are unique
	admitted  int                           // connections, from before their upgrade until they are closed
	addresses map[string]int                // the same, and leases, by address; empty without ConnectionsPerAddress
	swept     map[api.ApplicationID]*sweeps // what Apply has ended
}

// sweeps counts the sessions that one epoch of an application has ended.
type sweeps struct {
	epoch uint64
	ended int
}

// New returns a gateway that takes sessions as soon as it is served.
func New(cfg Config) *Gateway {
	g := &Gateway{
		cfg:       cfg,
		log:       cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)),
		limits:    cfg.Limits.withDefaults(),
		all:       map[*session]struct{}{},
		live:      map[sessionKey]*session{},
		leases:    map[sessionKey]*lease{},
		own:       map[api.SessionID]*lease{},
		addresses: map[string]int{},
		swept:     map[api.ApplicationID]*sweeps{},
		stopping:  make(chan struct{}),
		elsewhere: cfg.Elsewhere,
	}
	if g.elsewhere == nil {
		g.elsewhere = nowhere{}
	}
	g.hellos = make(chan struct{}, g.limits.HellosInFlight)
	g.lot = newLot(openWorkers, g.limits.HellosInFlight)
	if !cfg.Unparked {
		var err error
		if g.poller, err = websock.NewPoller(); err != nil {
			g.poller = nil
			g.log.Info("every session has a goroutine, for sockets cannot be parked here", "err", err)
		}
	}
	g.leaseMux = g.leaseRoutes()
	g.metrics = newMetrics(cfg.Metrics, g)
	return g
}

// Run drives the sessions until ctx ends. It must run while the gateway is served, and until Drain has returned.
func (g *Gateway) Run(ctx context.Context) error {
	if g.poller == nil {
		g.lot.run(ctx)
		return nil
	}
	var poll sync.WaitGroup
	var err error
	poll.Go(func() { err = g.poller.Run() })
	g.lot.run(ctx)
	cerr := g.poller.Close()
	poll.Wait()
	return errors.Join(err, cerr)
}

// now is the wall clock, for what is dated; deadlines go by the monotonic one.
func (g *Gateway) now() api.Millis { return g.cfg.Tenants.Now() }

// Sockets returns how many connections clients have open, those that are being upgraded included.
func (g *Gateway) Sockets() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admitted
}

// EventStreams returns how many event streams of leases are open.
func (g *Gateway) EventStreams() int { return int(g.watched.Load()) }

// find returns the live session of the application with that id, nil when this node has none.
func (g *Gateway) find(app api.ApplicationID, id api.ServerID) *session {
	_, session, _ := id.Split()
	g.mu.Lock()
	s := g.live[sessionKey{app, session}]
	g.mu.Unlock()
	if s == nil || s.serverID() != id {
		return nil
	}
	return s
}

// Disconnect ends one session of the application for an operator and returns when it has left the registry and was told; false
// when this node has no such session. The reason may be "".
func (g *Gateway) Disconnect(_ context.Context, app api.ApplicationID, id api.ServerID, by tenant.Actor, reason string) bool {
	s := g.find(app, id)
	if s == nil {
		return false
	}
	return s.end(disconnected(by, reason))
}

// DisconnectMatching ends, for an operator, this node's sessions that match the query's search now and matched it at the end of the
// millisecond at, and returns how many that were when all have left the registry and were told. The reason may be "".
func (g *Gateway) DisconnectMatching(q registry.Query, at api.Millis, by tenant.Actor, reason string) int {
	ids, _ := g.cfg.Registry.Matching(q, at)
	sessions := make([]*session, 0, len(ids))
	for _, id := range ids {
		if s := g.find(q.Application, id); s != nil {
			sessions = append(sessions, s)
		}
	}
	return g.endAll(sessions, func() cause { return disconnected(by, reason) })
}

func disconnected(by tenant.Actor, reason string) cause {
	return cause{close: api.CloseDisconnected, text: reason, reason: api.EndDisconnected, by: string(by), note: reason, deny: true}
}

// Apply brings the registry's gate and the sessions to an application's state, and returns how many sessions its present epoch has
// ended on this node: asked again, it answers the same number. Calls for one application must not overlap.
func (g *Gateway) Apply(app tenant.Application) int {
	rows := g.cfg.Registry.SetApplication(app.Organization, app.ID,
		registry.Gate{State: app.State, Epoch: app.Epoch, RevokedAt: app.RevokedAt}, app.LastConnection)
	c := causeOf(app)
	sessions := make([]*session, 0, len(rows))
	for i := range rows {
		if s := g.find(app.ID, rows[i].ServerID); s != nil {
			sessions = append(sessions, s)
		}
	}
	n := g.endAll(sessions, func() cause { return c })
	if n > 0 {
		g.log.Info("application ended its sessions", "application", app.ID, "reason", c.reason, "sessions", n, "by", c.by)
	}
	for _, s := range sessions {
		s.awaitTold() // those that something else is ending at this moment
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	count := g.swept[app.ID]
	if count == nil {
		count = &sweeps{}
		g.swept[app.ID] = count
	}
	if count.epoch != app.Epoch {
		*count = sweeps{epoch: app.Epoch}
	}
	if c.reason != api.EndApplicationPaused { // a pause raises no epoch
		count.ended += n
	}
	return count.ended
}

// Swept returns how many sessions of the application the epoch has ended on this node, as Apply has said.
func (g *Gateway) Swept(app api.ApplicationID, epoch uint64) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if count := g.swept[app]; count != nil && count.epoch == epoch {
		return count.ended
	}
	return 0
}

// causeOf returns why the sessions that an application's state does not allow end.
func causeOf(app tenant.Application) cause {
	switch app.State {
	case api.ApplicationPaused:
		return cause{close: api.CloseApplicationPaused, reason: api.EndApplicationPaused, by: app.StateBy}
	case api.ApplicationArchived:
		return cause{close: api.CloseApplicationArchive, reason: api.EndApplicationArchived, by: app.StateBy}
	default:
		return cause{close: api.CloseRevoked, text: app.RevokedReason, reason: api.EndRevoked, by: app.RevokedBy,
			note: app.RevokedReason, deny: true}
	}
}

// endAll ends sessions together and returns how many of them it was that ended. All are out of the registry before the first
// client is told, and no client waits for another's socket.
func (g *Gateway) endAll(sessions []*session, why func() cause) int {
	endings := make([]ending, 0, len(sessions))
	var denials []store.Denial
	for _, s := range sessions {
		if e, ok := s.claim(why()); ok {
			endings = append(endings, e)
			denials = append(denials, e.denials...)
		}
	}
	if len(denials) > 0 {
		g.cfg.Tenants.Deny(denials)
	}
	for i := range endings {
		endings[i].settle()
	}
	if len(endings) >= massEnd {
		defer g.cfg.Records.Hold(time.Second)()
	}
	var wg sync.WaitGroup
	var next atomic.Int64
	for range min(tellers, len(endings)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(endings)); i = next.Add(1) - 1 {
				endings[i].tell()
			}
		})
	}
	wg.Wait()
	return len(endings)
}

// Drain refuses new sessions and tells every client to reconnect elsewhere, with retryAfterMs spread over spread. It returns when
// all are gone, or ctx ends: then what is left is cut off. Leases do not end: they wait to be adopted.
func (g *Gateway) Drain(ctx context.Context, spread time.Duration) {
	g.mu.Lock()
	if !g.draining {
		g.draining = true
		close(g.stopping)
	}
	g.mu.Unlock()
	n := g.endAll(g.connections(), func() cause { return drained(spread) })
	leases := g.releaseAll(spread)
	g.log.Info("sessions were told to reconnect elsewhere", "connections", n, "leases", leases)

	gone := make(chan struct{})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		g.conns.Wait()
		close(gone)
	})
	select {
	case <-gone:
	case <-ctx.Done():
		for _, s := range g.connections() {
			_ = s.socket.Close()
		}
	}
	// Bounded: a connection that is closed is left at once, or after the record that it waits for.
	waiter.Wait()
}

func (g *Gateway) connections() []*session {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*session, 0, len(g.all))
	for s := range g.all {
		all = append(all, s)
	}
	return all
}

func drained(spread time.Duration) cause {
	c := cause{close: api.CloseGoingAway, reason: api.EndNodeDraining}
	if spread >= time.Millisecond {
		c.retryAfterMs = 1 + rand.Int64N(spread.Milliseconds())
	}
	return c
}
