package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/limit"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Deadlines of plain HTTP requests; connections that became WebSockets have their own. They bound what a slow or silent client can
// hold: a handler for half a minute, a connection without a request for two, and that only while nobody else needs the place (door).
const (
	headerTimeout  = 10 * time.Second
	bodyTimeout    = 15 * time.Second // see bounded
	writeTimeout   = 45 * time.Second // from the end of the head: the body, the 25 s that a change may take, and the answer
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 32 << 10
	shutdownLimit  = 5 * time.Second
)

const (
	beatInterval   = time.Second      // page 4: the node row's last sign of life dates the ends of a crash
	nodeLapse      = 10 * time.Second // page 4: a node's lease in SQL
	beatTimeout    = 2 * time.Second  // of one; the next one tries another connection
	retainInterval = time.Minute
	sweepInterval  = 2 * time.Second // leases of an earlier life that nobody took up again
)

// listen opens the listeners and loads the certificate.
func (s *Server) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w; give another address with --listen", err)
	}
	slow := limit.Register(s.metrics, "header-timeout", headerTimeout.Seconds())
	s.listener = newDoor(l, "connections", s.budget.connections, s.kept, slow, s.metrics, s.log)
	s.listener.rushed = s.rushed
	if s.cfg.TLSCert != "" {
		cert, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey)
		if err != nil {
			return fmt.Errorf("tls-cert, tls-key: %w", err)
		}
		// HTTP/1.1 only: a WebSocket takes its connection over, which HTTP/2 does not allow.
		s.listener.secure = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	}
	if s.cfg.OpsListen == "" {
		return nil
	}
	if l, err = lc.Listen(ctx, "tcp", s.cfg.OpsListen); err != nil {
		return fmt.Errorf("ops-listen: %w; give another address with --ops-listen, or \"\" to turn it off", err)
	}
	s.opsListener = newDoor(l, "ops-connections", s.budget.ops, func() int { return 0 }, slow, s.metrics, s.log)
	return nil
}

// part is something that runs until its context ends.
type part struct {
	name string
	run  func(context.Context) error
}

// Run serves until ctx ends, then drains: readiness fails, DrainDelay passes, the listener closes, clients and operators are told,
// records are closed and written. It returns nil after a clean drain.
func (s *Server) Run(ctx context.Context) error {
	defer s.release()
	main, ops := s.httpServers()
	crowd := newCrowd(s.log)

	// The engine outlives sessions and API: what ends last has something to write to.
	engine := []part{{"recorder", s.recorder.Run}, {"tenants", s.tenants.Run}, {"gateway", s.gateway.Run},
		{"beat", s.beat}, {"retention", s.retain}, {"trim", s.trim}, {"rush", s.giveWay}, {"sweep", s.sweepLeases},
		{"clock", s.watchClock}}
	if s.cluster != nil {
		engine = append(engine, part{"cluster", s.cluster.Run}, part{"connections", s.levelConnections})
	}
	stopEngine := crowd.start("engine", engine...)
	stopAPI := crowd.start("api", part{"manage", s.manage.Run})
	stopHTTP := crowd.start("http", part{"listener", func(context.Context) error { return serve(main, s.listener) }})
	stopOps := func() {}
	if ops != nil {
		stop := crowd.start("ops", part{"ops listener", func(context.Context) error { return serve(ops, s.opsListener) }})
		stopOps = func() {
			_ = ops.Close()
			stop()
		}
	}
	s.state.Store(int32(serving))
	s.log.Info("serving", "addr", s.Addr(), "ops", s.OpsAddr(), "node", s.cfg.Node,
		"descriptors", s.budget.descriptors, "maxSessions", s.cfg.Gateway.MaxSessions)

	select {
	case <-ctx.Done():
	case <-crowd.failed:
	}
	s.state.Store(int32(draining))
	s.log.Info("draining", "delay", s.cfg.DrainDelay, "limit", s.cfg.Drain)
	// A fresh context: the one that ended must not cut the drain short.
	dctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Drain)
	defer cancel()
	select {
	case <-time.After(s.cfg.DrainDelay):
	case <-crowd.failed:
	}
	_ = s.listener.Close()  // no new connection; requests under way finish below
	var told sync.WaitGroup // clients and operators hear of it together
	told.Go(func() { s.gateway.Drain(dctx, s.cfg.Drain/2) })
	told.Go(stopAPI)
	told.Wait()
	s.shutdown(dctx, main)
	stopHTTP()
	stopEngine()
	s.leave(dctx, crowd.err())
	stopOps() // last, so that the drain can be watched
	s.log.Info("stopped")
	return crowd.err()
}

// leave frees the node's name, so that its next start waits for nobody, on whatever data directory. A node that failed may have left
// something open, and lapses like one that died.
func (s *Server) leave(ctx context.Context, failed error) {
	if failed != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), beatTimeout)
	defer cancel()
	if err := s.db.Nodes().Release(ctx, s.incarnation.Load()); err != nil {
		s.log.Warn("the node's name could not be released; a start on another data directory takes some seconds", "err", err)
	}
}

// shutdown lets requests under way finish, but not with all the time that is left: the records that wait need some too, and a
// client that sends half a request would take it.
func (s *Server) shutdown(ctx context.Context, srv *http.Server) {
	ctx, cancel := context.WithTimeout(ctx, min(shutdownLimit, s.cfg.Drain/4))
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		_ = srv.Close()
	}
}

func (s *Server) httpServers() (main, ops *http.Server) {
	slow := limit.Register(s.metrics, "body-timeout", bodyTimeout.Seconds())
	main = httpServer(bounded(s.handler(), slow), s.listener, s.log)
	if s.opsListener != nil {
		ops = httpServer(bounded(manage.Ops(s.readiness, s.metrics), slow), s.opsListener, s.log)
	}
	return main, ops
}

// httpServer has no ReadTimeout: that would cut off whoever waits for an answer, such as a profile, as well as slow bodies.
func httpServer(h http.Handler, d *door, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           d.watch(h),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         d.connState,
		ConnContext:       d.connContext,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // clients' TLS and protocol mistakes
	}
}

// serve is srv.Serve without the error that a wanted stop gives.
func serve(srv *http.Server, l net.Listener) error {
	err := srv.Serve(l)
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// beat records the node's sign of life.
//
// When another process has taken the node's name, this one ends: two of one name would close each other's records for ever.
func (s *Server) beat(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var taken error
	_ = every(ctx, beatInterval, func() { // it ends with ctx, which is no error
		err := s.beatOnce(ctx)
		s.expect(ctx)
		switch was := s.beatErr.Load(); {
		case err == nil || ctx.Err() != nil:
			s.beatErr.Store(nil)
		case errors.Is(err, store.ErrNameTaken):
			taken = fmt.Errorf("%w; give each node its own name with --node", err)
			cancel()
		default:
			s.beatErr.Store(&err)
			if was == nil {
				s.log.Warn("the node's sign of life cannot be written; sessions go on", "err", err)
			}
		}
	})
	return taken
}

// beatOnce records one sign of life. A node that was taken for dead while it could not (it was stopped, or cut off) comes back: under
// a new incarnation, to which all of its sessions' records are handed over once more.
func (s *Server) beatOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	nodes := s.db.Nodes()
	err := nodes.Beat(ctx, s.cfg.Node, s.incarnation.Load())
	if !errors.Is(err, store.ErrLeaseLost) || errors.Is(err, store.ErrNameTaken) {
		return err
	}
	incarnation, cerr := s.claimName(ctx)
	if cerr != nil {
		return cerr
	}
	s.recorder.Renew(incarnation)
	if s.cluster != nil {
		s.cluster.Reincarnate(incarnation)
	}
	s.log.Warn("the node was taken for dead and comes back under a new incarnation", "incarnation", incarnation,
		"sessions", s.gateway.Restate(), "reason", err)
	return nil
}

// retain deletes the ended sessions that are older than their organization's plan keeps them.
func (s *Server) retain(ctx context.Context) error {
	return every(ctx, retainInterval, func() {
		_, err := s.recorder.Retain(ctx, s.tenants.Now(), func(yield func(api.OrganizationID, time.Duration) bool) {
			for _, org := range s.tenants.Organizations() {
				if !yield(org.ID, time.Duration(org.Plan.HistoryRetention)) {
					return
				}
			}
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("ended sessions past their retention could not be deleted", "err", err)
		}
	})
}

// sweepLeases closes the records of leases that ran out while nobody held them, and lets go of those that others have taken over.
func (s *Server) sweepLeases(ctx context.Context) error {
	failing := false
	return every(ctx, sweepInterval, func() {
		n, err := s.db.Nodes().Sweep(ctx, s.cfg.Node, s.incarnation.Load(), s.lapse())
		if err == nil && s.cluster != nil {
			err = s.gateway.Reconcile(ctx)
		}
		switch {
		case err != nil && ctx.Err() == nil && !failing:
			failing = true
			s.log.Warn("leases that ran out cannot be closed; it is tried again", "err", err)
		case err == nil:
			failing = false
		}
		if n > 0 {
			s.log.Info("closed the records of leases that nobody took up again", "records", n)
		}
	})
}

// every calls fn now and then once an interval, until ctx ends.
func every(ctx context.Context, interval time.Duration, fn func()) error {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		fn()
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// crowd runs parts in groups that are stopped one after the other. The first part that fails on its own closes failed.
type crowd struct {
	log    *slog.Logger
	failed chan struct{}

	mu    sync.Mutex
	first error // of the first part that failed; failed is closed exactly when it is set
}

func newCrowd(log *slog.Logger) *crowd { return &crowd{log: log, failed: make(chan struct{})} }

// start runs the parts as one group and returns the function that ends their context and waits for them.
func (c *crowd) start(group string, parts ...part) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			if err := p.run(ctx); err != nil {
				c.fail(fmt.Errorf("%s: %w", p.name, err))
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
		c.log.Debug("stopped", "group", group)
	}
}

func (c *crowd) fail(err error) {
	c.log.Error("a part failed", "err", err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil {
		c.first = err
		close(c.failed)
	}
}

func (c *crowd) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.first
}
