// Package jwks holds the public keys of token issuers, by the address of their JWK Set (RFC 7517). It owns fetching, caching and
// refreshing them, and what of a set is believed.
//
// It promises: Find reads memory and never waits; whoever needs a fetch is given a channel. An address is fetched at most once in
// two seconds however many ask, one fetch at a time, and one group's addresses cannot hold up another's. A fetch is bounded in time
// and size and follows nothing. Keys serve until a set with usable keys takes their place: an issuer that is slow, away, or answers
// nonsense takes none away. Safe for concurrent use.
//
// It does not verify tokens, and knows nothing of who configured an address.
package jwks

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	minInterval     = 2 * time.Second // between the end of one fetch of an address and the start of the next
	refreshInterval = 5 * time.Minute // of sets in use
	retryInterval   = 30 * time.Second
	maxFlights      = 64 // fetches at once
	maxGroupFlights = 8  // of one group's addresses
)

// Config configures New.
type Config struct {
	// InUse tells whether an address is still configured; what is not is forgotten at its next refresh. nil = always.
	InUse     func(address string) bool
	Transport http.RoundTripper     // nil = one that refuses addresses that no issuer has
	Log       *slog.Logger          // nil = discard
	Metrics   prometheus.Registerer // nil = none
}

// Group is on whose behalf an address is fetched. The fetches of one are bounded together.
type Group [16]byte

var (
	// ErrUnknown says that a set that was fetched after the question arose has no such key.
	ErrUnknown = errors.New("the issuer has no such key")
	// ErrAway says that a fetch that began after the question arose failed, and that no key that is here answers it.
	ErrAway = errors.New("the issuer's keys cannot be fetched")
)

// Pending is Find's error when a fetch may bring the key.
type Pending struct {
	Done  <-chan struct{} // closed when a fetch has ended; then ask again
	Since time.Time       // when the question arose; to be given back
}

// Error implements error.
func (*Pending) Error() string { return "the issuer's keys are being fetched" }

// Cache holds the sets. Run must run for anything to be fetched.
type Cache struct {
	cfg     Config
	metrics metrics
	kick    chan struct{} // has Run look for what is to be fetched

	mu      sync.RWMutex
	sources map[string]*source // by address
	flights map[Group]int      // fetches under way; no entry is 0
	flying  int                // their sum
}

// source is an address. Its fields are guarded by Cache.mu.
type source struct {
	group  Group // that asked last; the fetch under way is charged to charge
	charge Group
	keys   set // of the last fetch that succeeded
	asOf   time.Time
	failed time.Time // when the last fetch began, if it failed
	due    time.Time // of the next refresh
	ended  time.Time // of the last fetch
	flying bool
	// current is closed when the fetch under way ends, next when the one after it does; nil when nobody waits.
	current, next chan struct{}
}

// New returns a cache that is empty.
func New(cfg Config) *Cache {
	if cfg.InUse == nil {
		cfg.InUse = func(string) bool { return true }
	}
	if cfg.Transport == nil {
		cfg.Transport = newTransport()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Cache{cfg: cfg, metrics: newMetrics(cfg.Metrics), kick: make(chan struct{}, 1), sources: map[string]*source{},
		flights: map[Group]int{}}
}

// Find returns the keys at the address that may have signed a token with that kid ("" = it has none) and algorithm: one, or a few
// to be tried. since is when the token was first presented; zero = now. The error is ErrUnknown, ErrAway, or *Pending.
func (c *Cache) Find(group Group, address, kid, alg string, since time.Time) ([]crypto.PublicKey, error) {
	c.mu.RLock()
	s := c.sources[address]
	var found []crypto.PublicKey
	if s != nil {
		found = s.keys.find(kid, alg)
	}
	c.mu.RUnlock()
	if found != nil {
		return found, nil
	}
	if since.IsZero() {
		since = time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s = c.sources[address]; s == nil {
		s = &source{}
		c.sources[address] = s
	}
	switch {
	case s.keys.find(kid, alg) != nil: // it came meanwhile
		return s.keys.find(kid, alg), nil
	case !s.asOf.Before(since):
		return nil, ErrUnknown
	case !s.failed.Before(since):
		return nil, ErrAway
	}
	s.group = group
	return nil, &Pending{Done: c.waitLocked(s), Since: since}
}

// waitLocked returns the channel of the fetch under way, or has one begin.
func (c *Cache) waitLocked(s *source) <-chan struct{} {
	if s.flying {
		if s.current == nil {
			s.current = make(chan struct{})
		}
		return s.current
	}
	if s.next == nil {
		s.next = make(chan struct{})
		c.look()
	}
	return s.next
}

func (c *Cache) look() {
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Run fetches what is asked for and refreshes what is here until ctx ends; it returns when no fetch is under way.
func (c *Cache) Run(ctx context.Context) {
	var flights sync.WaitGroup
	defer flights.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		case <-timer.C:
		}
		ready, next := c.ready(time.Now())
		for address, s := range ready {
			flights.Go(func() { c.fly(ctx, address, s) })
		}
		timer.Reset(next)
	}
}

// ready marks the sources whose fetch is to begin as flying and returns them, and how long until others may be. What finds no
// place now is looked at again when a fetch ends.
func (c *Cache) ready(now time.Time) (map[string]*source, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready := map[string]*source{}
	next := refreshInterval
	for address, s := range c.sources {
		at := s.due
		if s.next != nil {
			at = s.ended.Add(minInterval)
		}
		switch {
		case s.flying:
		case at.After(now):
			next = min(next, at.Sub(now))
		case c.flying < maxFlights && c.flights[s.group] < maxGroupFlights:
			s.flying, s.charge, s.current, s.next = true, s.group, s.next, nil
			c.flying++
			c.flights[s.charge]++
			ready[address] = s
		}
	}
	return ready, next
}

// fly fetches one source.
func (c *Cache) fly(ctx context.Context, address string, s *source) {
	began := time.Now()
	if !c.cfg.InUse(address) {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.sources, address)
		c.landLocked(s)
		return
	}
	keys, err := fetch(ctx, c.cfg.Transport, address)
	c.metrics.fetched(err, time.Since(began))
	c.tell(ctx, address, s, keys, err)
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if s.ended = now; err == nil {
		s.keys, s.asOf, s.failed, s.due = keys, began, time.Time{}, now.Add(jitter(refreshInterval))
	} else {
		s.failed, s.due = began, now.Add(jitter(retryInterval))
	}
	c.landLocked(s)
}

// landLocked gives the place of a fetch back and wakes who waited for it.
func (c *Cache) landLocked(s *source) {
	s.flying = false
	if s.current != nil {
		close(s.current)
		s.current = nil
	}
	c.flying--
	if c.flights[s.charge]--; c.flights[s.charge] == 0 {
		delete(c.flights, s.charge)
	}
	c.look()
}

// tell logs when an issuer goes away and when it is back.
func (c *Cache) tell(ctx context.Context, address string, s *source, keys set, err error) {
	c.mu.RLock()
	was := !s.failed.IsZero() // nobody else changes it while the fetch is under way
	c.mu.RUnlock()
	switch {
	case err == nil && was:
		c.cfg.Log.Info("the keys of a token issuer can be fetched again", "url", shown(address), "keys", len(keys))
	case err != nil && !was && ctx.Err() == nil:
		c.cfg.Log.Warn("the keys of a token issuer cannot be fetched; those that are here go on serving", "url", shown(address), "err", err)
	}
}

// jitter spreads the refreshes of sources and nodes that began together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}
