// Package tenant decides who may do what: organizations and plans, applications, API keys, session tokens and their revocation.
// It holds all of it in memory, reads never wait for SQL, and every node notices a change within half a second by polling one
// version row. Writes go to SQL first and take effect here before they return.
//
// It promises: the secrets of API keys are kept as hashes, and compared in constant time, as publishable keys are; a token that
// is refused once for revocation is refused for ever; an Application or Key is a snapshot, so whoever holds one across time asks
// again (G7); no error and no log line carries a secret. While the database is away, reads go on from memory (G9).
package tenant

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/jwks"
	"github.com/rollcallhq/rollcall/internal/store"
)

const (
	defaultPoll  = 500 * time.Millisecond // page 4: every node polls the version row
	readTimeout  = 5 * time.Second        // of one read for polling; past it the database counts as away
	lookTimeout  = time.Second            // of one look at the version: after a cut the next one takes a connection that works (G4)
	writeTimeout = 5 * time.Second        // of one write, the reading back included
	tellTimeout  = 30 * time.Second       // how long a write waits for OnApplication; an end of sessions is bounded well below
	saveInterval = 3 * time.Second        // between two writes of keys' last uses
)

// Config configures New.
type Config struct {
	Store store.Config     // required
	Now   func() time.Time // the wall clock; nil = time.Now
	Log   *slog.Logger     // nil = discard
	// Poll is how often the version row is read; 0 = 500 ms.
	Poll time.Duration
	// DenialMargin is how long a denial outlasts its token, for nodes whose clocks are behind; 0 = an hour. As often they are purged.
	DenialMargin time.Duration
	// Metrics has the numbers of fetching issuers' keys; nil = none.
	Metrics prometheus.Registerer
	// Issuers is how issuers' keys are fetched; nil = over HTTP, as docs/management-api.md says.
	Issuers http.RoundTripper
}

// Directory holds the tenants. Safe for concurrent use.
type Directory struct {
	cfg     Config
	signing []byte // the server's secret for session tokens, shared by all nodes
	uses    *uses
	issuers *jwks.Cache

	reading turn          // held while changes are read and taken over, so that versions come in order
	telling turn          // held while OnApplication's function runs
	raising [64]turn      // by application: one local change of an epoch at a time, so that each counts its own ends
	changed chan struct{} // wakes Run's teller

	mu   sync.RWMutex
	mem  memory
	away error // of the last read of the database
	tell func(Application) int
	// queue holds the applications that changed and whose change tell has not been called with, each once, in version order.
	queue   []api.ApplicationID
	queued  map[api.ApplicationID]bool
	applied int64 // the version whose changes tell has been called with
	// counts holds, for applications that are being revoked here, what tell returned for each epoch.
	counts map[api.ApplicationID]map[uint64]int
}

// turn is a mutual exclusion that may be held across I/O and callbacks, and waited for until a context ends.
type turn chan struct{}

func newTurn() turn { return make(turn, 1) }

func (t turn) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turn) give() { <-t }

// New reads everything and returns a directory that is ready.
func New(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Poll == 0 {
		cfg.Poll = defaultPoll
	}
	if cfg.DenialMargin == 0 {
		cfg.DenialMargin = time.Hour
	}
	d := &Directory{
		cfg: cfg, mem: newMemory(), uses: newUses(),
		reading: newTurn(), telling: newTurn(), changed: make(chan struct{}, 1),
		queued: map[api.ApplicationID]bool{}, counts: map[api.ApplicationID]map[uint64]int{},
	}
	for i := range d.raising {
		d.raising[i] = newTurn()
	}
	d.issuers = jwks.New(jwks.Config{InUse: d.usesIssuer, Transport: cfg.Issuers, Log: cfg.Log, Metrics: cfg.Metrics})
	var err error
	if d.signing, err = cfg.Store.Secret(ctx, "token-signing", randomBytes(32)); err != nil {
		return nil, fmt.Errorf("cannot read the token signing secret: %w", err)
	}
	if err := d.refresh(ctx); err != nil {
		return nil, fmt.Errorf("cannot read the configuration of tenants: %w", err)
	}
	return d, nil
}

// OnApplication calls fn with every application now, and again whenever one (or its plan) changed, before the write that changed
// it returns. Calls are serialized and in version order; several changes of one application may come as one call. fn returns how
// many sessions the application's present epoch has ended here. It must not write to the directory. To be called once, before
// Run.
func (d *Directory) OnApplication(fn func(Application) int) {
	_ = d.telling.take(context.Background()) // cannot fail
	defer d.telling.give()
	d.mu.Lock()
	d.tell = fn
	d.queue, d.queued = nil, map[api.ApplicationID]bool{}
	d.enqueueLocked(d.mem.allApplications())
	d.mu.Unlock()
	d.drain()
}

// Run polls for changes, fetches issuers' keys, writes the API keys' last uses and purges denials until ctx ends; it returns when
// all of that has stopped.
func (d *Directory) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { d.poll(ctx) })
	parts.Go(func() { d.tellChanges(ctx) })
	parts.Go(func() { d.keepHouse(ctx) })
	parts.Go(func() { d.issuers.Run(ctx) })
	parts.Wait()
	return nil
}

// Away returns the error of the last read of the database, nil when it answered. For /readyz.
func (d *Directory) Away() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.away
}

// poll looks at the version row until ctx ends. Reading is apart from telling, so that keys and denials are up to date (G7) even
// while the end of many sessions takes its time.
func (d *Directory) poll(ctx context.Context) {
	tick := time.NewTicker(d.cfg.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		d.pollOnce(ctx)
	}
}

func (d *Directory) pollOnce(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	look, done := context.WithTimeout(ctx, lookTimeout)
	version, err := d.cfg.Store.Version(look)
	done()
	d.setAway(err)
	if err != nil {
		return
	}
	d.mu.RLock()
	known := d.mem.version
	d.mu.RUnlock()
	if version != known && d.refresh(ctx) == nil {
		d.wake()
	}
}

// CatchUp reads what changed and returns when OnApplication's function was called with it. With the database away it returns
// unavailable.
func (d *Directory) CatchUp(ctx context.Context) error {
	err := d.refresh(ctx)
	if err == nil {
		err = d.deliver(ctx)
	}
	if err != nil {
		return unavailable("the configuration cannot be read", err)
	}
	return nil
}

// Applied returns the version of the configuration whose changes OnApplication's function was called with.
func (d *Directory) Applied() int64 {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.applied
}

// wake has Run's teller look at the queue.
func (d *Directory) wake() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

func (d *Directory) tellChanges(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.changed:
		}
		_ = d.deliver(ctx) // it fails when ctx ends, and then there is nobody left to tell
	}
}

// setAway notes how the last read went, and logs the change from one to the other. A caller that gave up says nothing of the
// database.
func (d *Directory) setAway(err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	d.mu.Lock()
	was := d.away
	d.away = err
	d.mu.Unlock()
	switch {
	case was == nil && err != nil:
		d.cfg.Log.Warn("the database does not answer; tenants are served from memory", "error", err)
	case was != nil && err == nil:
		d.cfg.Log.Info("the database answers again")
	}
}

// refresh reads what changed since the version in memory and takes it over.
func (d *Directory) refresh(ctx context.Context) error {
	if err := d.reading.take(ctx); err != nil {
		return err
	}
	defer d.reading.give()
	d.mu.RLock()
	known := d.mem.version
	d.mu.RUnlock()
	changes, err := d.cfg.Store.Since(ctx, known)
	if err == nil && changes.Version < known { // an older copy of the database was put in place
		changes, err = d.cfg.Store.Since(ctx, 0)
	}
	d.setAway(err)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.enqueueLocked(d.mem.take(changes))
	return nil
}

func (d *Directory) enqueueLocked(changed []*store.Application) {
	if d.tell == nil {
		return // OnApplication starts with all of them
	}
	slices.SortFunc(changed, func(a, b *store.Application) int { return int(a.Version - b.Version) })
	for _, app := range changed {
		if !d.queued[app.ID] {
			d.queued[app.ID] = true
			d.queue = append(d.queue, app.ID)
		}
	}
}

// deliver calls OnApplication's function for every change that is in memory; when it returns nil, all of those were told, by
// whomever.
func (d *Directory) deliver(ctx context.Context) error {
	if err := d.telling.take(ctx); err != nil {
		return err
	}
	defer d.telling.give()
	d.drain()
	return nil
}

// drain empties the queue; the caller holds the telling turn.
func (d *Directory) drain() {
	for {
		d.mu.Lock()
		if len(d.queue) == 0 {
			d.queue, d.applied = nil, d.mem.version
			d.mu.Unlock()
			return
		}
		id := d.queue[0]
		d.queue = d.queue[1:]
		delete(d.queued, id)
		app, tell := d.mem.application(id), d.tell
		d.mu.Unlock()

		ended := tell(app)

		d.mu.Lock()
		if counts := d.counts[id]; counts != nil {
			counts[app.Epoch] = ended
		}
		d.mu.Unlock()
	}
}

// keepHouse writes last uses and purges denials until ctx ends, and writes the last uses once more then.
func (d *Directory) keepHouse(ctx context.Context) {
	save, purge := time.NewTicker(saveInterval), time.NewTicker(d.cfg.DenialMargin)
	defer save.Stop()
	defer purge.Stop()
	d.purge(ctx)
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			d.saveUses(last)
			cancel()
			return
		case <-save.C:
			d.saveUses(ctx)
		case <-purge.C:
			d.purge(ctx)
		}
	}
}

func (d *Directory) purge(ctx context.Context) {
	before := d.Now().Add(-d.cfg.DenialMargin)
	d.mu.Lock()
	d.mem.purge(before)
	d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := d.cfg.Store.Purge(ctx, before); err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("expired denials were not purged; it is tried again", "in", d.cfg.DenialMargin, "error", err)
	}
}

// Now returns the time by the node's wall clock, which judges tokens and dates what happens to sessions.
func (d *Directory) Now() api.Millis { return api.MillisOf(d.cfg.Now()) }
