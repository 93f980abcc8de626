// Package server is the composition root: it turns a Config into running parts, and is the only place that starts, orders and stops
// them. It owns the data directory, the listeners, readiness and the drain; it knows nothing of what the parts do.
//
// It promises: New refuses a configuration that cannot be honoured with the field and the reason before anything listens; Run
// returns when everything that it started has stopped; a drain tells every client, closes every record and empties the queue
// before the database is closed.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/rollcallhq/rollcall/clients/js"
	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/web"
)

// Config configures New. Each field stands for the flag of `rollcall serve` with the same name (page 6 of the specification).
type Config struct {
	Listen         string // host:port of the API and the session protocol; "" = 127.0.0.1:8080. Port 0 picks a free one
	OpsListen      string // host:port of health, metrics and pprof; "" = off
	TLSCert        string // PEM files; both or neither
	TLSKey         string
	Data           string         // data directory, created when missing; "" = rollcall-data
	Database       string         // "" = sqlite:<Data>/rollcall.db
	Node           string         // "" = the host name
	Bootstrap      string         // YAML file applied at start; "" = none
	AdminToken     string         // "" = the one in <Data>/admin-token, generated when missing
	TrustedProxies []netip.Prefix // peers whose X-Forwarded-For or Forwarded is believed
	DrainDelay     time.Duration  // between failing readiness and closing the listener
	Drain          time.Duration  // how long a drain may take in all, DrainDelay included; 0 = 20 s
	Descriptors    int            // that the node may use; 0 = as many as the process may open
	Reserve        int            // of these, needed by other code in the process
	Cluster        ClusterConfig
	Gateway        gateway.Limits // MaxSessions 0 = as many as the descriptors allow
	Manage         manage.Limits
	DenialMargin   time.Duration // see tenant.Config
	Log            *slog.Logger  // nil = discard
	// Now is the node's wall clock, for tests of nodes whose clocks differ; nil = time.Now.
	Now func() time.Time
}

// state is what /readyz says.
type state int32

const (
	starting state = 0
	serving  state = 1
	draining state = 2
)

// Server is one node.
type Server struct {
	cfg        Config
	budget     budget
	log        *slog.Logger
	state      atomic.Int32
	adminToken string

	unlock      func()
	db          store.DB
	incarnation atomic.Int64
	rows        *registry.Registry
	recorder    *store.Recorder
	tenants     *tenant.Directory
	gateway     *gateway.Gateway
	manage      *manage.API
	dashboard   *web.Site
	bus         cluster.Bus   // nil on a node that is alone
	cluster     *cluster.Node // the same
	metrics     *prometheus.Registry
	beatErr     atomic.Pointer[error]
	clock       atomic.Int64 // see clockAhead; milliseconds

	listener, opsListener *door
	rush                  chan struct{} // holds one: a newcomer waits at the listener's door
}

// nodeNames are the names that a node may have: they stand in serverIds, before the colon.
var nodeNames = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// New prepares a node: it takes the data directory, opens and migrates the database, closes the records of the node's earlier
// lives, applies the bootstrap file and opens the listeners. Nothing is served before Run. After an error nothing is left open.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	budget, err := share(cmp.Or(cfg.Descriptors, descriptorLimit()), cfg.Reserve)
	if err != nil {
		return nil, err
	}
	if cfg.Gateway.MaxSessions, err = budget.maxSessions(cfg.Gateway.MaxSessions); err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, budget: budget, log: cfg.Log, metrics: prometheus.NewRegistry(), rush: make(chan struct{}, 1)}
	if s.dashboard, err = web.New(js.Source()); err != nil {
		return nil, fmt.Errorf("dashboard: %w", err)
	}
	s.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := s.open(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

// complete fills in defaults, then validates.
func (cfg *Config) complete() error {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:8080"
	}
	if cfg.Data == "" {
		cfg.Data = "rollcall-data"
	}
	if cfg.Drain == 0 {
		cfg.Drain = 20 * time.Second
	}
	if cfg.Node == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("node: the host name cannot be read (%w); give --node", err)
		}
		cfg.Node = host
	}
	if !nodeNames.MatchString(cfg.Node) {
		return fmt.Errorf("node: %q must be 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit; give --node", cfg.Node)
	}
	if (cfg.TLSCert == "") != (cfg.TLSKey == "") {
		return errors.New("tls-cert, tls-key: give both or neither")
	}
	if cfg.DrainDelay < 0 || cfg.DrainDelay >= cfg.Drain {
		return fmt.Errorf("drain-delay: %s must not be negative and must be shorter than drain (%s)", cfg.DrainDelay, cfg.Drain)
	}
	return cfg.Cluster.complete(cfg.sqlite())
}

// open acquires everything that New promises, in the order in which each step can still be refused.
func (s *Server) open(ctx context.Context) (err error) {
	if s.unlock, err = lockData(s.cfg.Data); err != nil {
		return fmt.Errorf("data: %w", err)
	}
	if s.adminToken, err = adminToken(s.cfg.AdminToken, s.cfg.Data); err != nil {
		return fmt.Errorf("admin-token: %w", err)
	}
	if s.db, err = store.Open(ctx, s.databaseURL()); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if s.tenants, err = tenant.New(ctx, tenant.Config{Store: s.db.Config(), Now: s.cfg.Now, Log: s.log, Metrics: s.metrics,
		DenialMargin: s.cfg.DenialMargin}); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if err = s.bootstrap(ctx); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	if err = s.claim(ctx); err != nil {
		return err
	}
	if err = s.assemble(ctx); err != nil {
		return err
	}
	return s.listen(ctx)
}

// sqlite tells whether the database is one that no other node can use.
func (cfg *Config) sqlite() bool {
	return cfg.Database == "" || strings.HasPrefix(cfg.Database, "sqlite:")
}

func (s *Server) databaseURL() string {
	if s.cfg.Database != "" {
		return s.cfg.Database
	}
	return "sqlite:" + databaseFile(s.cfg.Data)
}

func (s *Server) bootstrap(ctx context.Context) error {
	if s.cfg.Bootstrap == "" {
		return nil
	}
	f, err := os.Open(s.cfg.Bootstrap)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := s.tenants.Bootstrap(ctx, f); err != nil {
		return fmt.Errorf("%s: %w", s.cfg.Bootstrap, err)
	}
	return nil
}

// claim starts a new incarnation of the node and closes what its earlier lives, and nodes that are gone, left open (G6).
func (s *Server) claim(ctx context.Context) error {
	if err := s.vacant(ctx); err != nil {
		return err
	}
	incarnation, err := s.claimName(ctx)
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	n, err := s.db.Nodes().Sweep(ctx, s.cfg.Node, incarnation, s.lapse())
	if err != nil {
		return fmt.Errorf("database: %w", err)
	}
	if n > 0 {
		s.log.Info("closed the records of sessions that an earlier stop left open", "records", n)
	}
	return nil
}

// claimName takes the node's name for a new incarnation, and remembers it for the next start.
func (s *Server) claimName(ctx context.Context) (int64, error) {
	incarnation, err := s.db.Nodes().Claim(ctx, s.cfg.Node)
	if err != nil {
		return 0, err
	}
	s.incarnation.Store(incarnation)
	if err := rememberLife(s.cfg.Data, s.cfg.Node, incarnation); err != nil {
		s.log.Warn("the node's incarnation could not be remembered; the next start may take some seconds", "err", err)
	}
	return incarnation, nil
}

// A node that lives gives a sign of life every beatInterval; one that gave none for nameLapse may be dead, and its name is free. A
// name that is still not free after nameWait is another's.
const (
	nameLapse = 2500 * time.Millisecond
	nameWait  = 4 * time.Second
	nameLook  = 200 * time.Millisecond
)

// vacant waits until nobody has the node's name: it is exclusive (page 4). An earlier life on the same data directory is over, for
// this process has the directory's lock.
func (s *Server) vacant(ctx context.Context) error {
	if s.lapse() == 0 {
		return nil
	}
	earlier := earlierLife(s.cfg.Data, s.cfg.Node)
	for until := time.Now().Add(nameWait); ; {
		living, err := s.db.Nodes().Living(ctx, nameLapse)
		if err != nil {
			return fmt.Errorf("database: %w", err)
		}
		switch other, taken := living[s.cfg.Node]; {
		case !taken || other == earlier:
			return nil
		case time.Now().After(until):
			return fmt.Errorf("node: %s lives: %w; give each node its own name with --node", s.cfg.Node, store.ErrNameTaken)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(nameLook):
		}
	}
}

// lapse is how long another node may be silent before its records are closed. A SQLite database has no other that lives.
func (s *Server) lapse() time.Duration {
	if s.cfg.sqlite() {
		return 0
	}
	return nodeLapse
}

// assemble builds the parts; nothing runs yet.
func (s *Server) assemble(ctx context.Context) error {
	s.rows = registry.New(registry.Config{Node: s.cfg.Node})
	s.recorder = store.NewRecorder(store.RecorderConfig{Records: s.db.Records(), Audits: s.db.Audits(), Log: s.log, Metrics: s.metrics,
		Incarnation: s.incarnation.Load()})
	var others gateway.Elsewhere
	if s.cfg.Cluster.joins() {
		others = elsewhere{s} // asked when requests come, once the cluster is joined
	}
	s.gateway = gateway.New(gateway.Config{
		Elsewhere: others,
		Node:      s.cfg.Node, Registry: s.rows, Tenants: s.tenants, Records: s.recorder,
		Log: s.log, Metrics: s.metrics, Limits: s.cfg.Gateway, Room: s.room, CutOff: s.cutOff,
	})
	s.tenants.OnApplication(s.apply)
	if err := s.joinCluster(ctx); err != nil {
		return err
	}
	// The node's row is written: whoever revokes from now on waits for this node. What was revoked before is read here.
	if err := s.tenants.CatchUp(ctx); err != nil {
		return fmt.Errorf("database: %w", err)
	}
	s.manage = manage.New(manage.Config{
		Registry: s.rows, Tenants: s.tenants, Records: s.recorder, Owner: owner{s.gateway, s.tenants, s.cluster}, Leases: s.gateway, Missing: s.missing(),
		AdminToken: s.adminToken, Log: s.log, Metrics: s.metrics, Limits: s.cfg.Manage, Room: s.room,
	})
	return nil
}

// apply brings registry and sessions to an application's state.
func (s *Server) apply(app tenant.Application) int {
	ended := s.gateway.Apply(app)
	s.rows.SetIdleAfter(app.ID, app.IdleAfter)
	return ended
}

// kept returns how many connections of the main listener sessions and streams have taken over.
func (s *Server) kept() int { return s.gateway.Sockets() + s.manage.Streams() }

// room tells whether one more of them leaves enough for plain requests.
func (s *Server) room() bool { return s.kept()+s.gateway.EventStreams() < places(s.budget.kept) }

// readiness is what /readyz answers: draining and starting fail it, trouble of the engine only shows (page 2).
func (s *Server) readiness() manage.Readiness {
	switch state(s.state.Load()) {
	case starting:
		return manage.Readiness{Status: "starting"}
	case draining:
		return manage.Readiness{Status: "draining"}
	case serving:
	}
	var reasons []string
	if st := s.recorder.Status(); st.Away {
		reasons = append(reasons, fmt.Sprintf("store: the database does not take records (%s); %d wait in memory", st.Err, st.Queued))
	}
	if err := s.tenants.Away(); err != nil {
		reasons = append(reasons, fmt.Sprintf("store: the configuration cannot be read (%v)", err))
	}
	if err := s.beatErr.Load(); err != nil {
		reasons = append(reasons, fmt.Sprintf("store: the node's sign of life cannot be written (%v)", *err))
	}
	if err := s.clockTrouble(); err != nil {
		reasons = append(reasons, "clock: "+err.Error())
	}
	reasons = append(reasons, s.clusterTrouble()...)
	if reasons != nil {
		return manage.Readiness{Status: "degraded", Reasons: reasons}
	}
	return manage.Readiness{Status: "ready"}
}

// Addr returns host:port of the main listener.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// OpsAddr returns host:port of the ops listener, "" when it is off.
func (s *Server) OpsAddr() string {
	if s.opsListener == nil {
		return ""
	}
	return s.opsListener.Addr().String()
}

// AdminToken returns the token of the admin routes.
func (s *Server) AdminToken() string { return s.adminToken }

// Rows returns the registry. It is for measurements, which fill it with rows that have neither socket nor record; nobody ends
// those, and they are not in the history.
func (s *Server) Rows() *registry.Registry { return s.rows }

// release undoes open.
func (s *Server) release() {
	for _, l := range []*door{s.listener, s.opsListener} {
		if l != nil {
			_ = l.Close() // closed by its http.Server already, when it ran
		}
	}
	if s.bus != nil {
		s.bus.Stop() // done already, when it ran
	}
	if s.db != nil {
		if err := s.db.Close(); err != nil {
			s.log.Error("closing the database", "err", err)
		}
	}
	if s.unlock != nil {
		s.unlock()
	}
}

// handler is the main listener's: the session protocol, the dashboard, and the management API for everything else.
func (s *Server) handler() http.Handler {
	return resolveClient(s.cfg.TrustedProxies, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if gateway.Serves(r.URL.Path) {
			s.gateway.ServeHTTP(w, r)
			return
		}
		if web.Serves(r.URL.Path) {
			s.dashboard.ServeHTTP(w, r)
			return
		}
		s.manage.ServeHTTP(w, r)
	}))
}
