package main

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"
)

type benchStormersCmd struct{}

// stormers are the clients of a storm.
type stormers struct {
	*flock
	clients []stormer
	pending int       // have been dialled and were not heard of
	looked  time.Time // at the clock, for every client
}

// stormer is what its client knows beside the connection.
type stormer struct {
	cut   time.Time // when it lost its last connection; before that, when it first dialled
	delay time.Duration
	again time.Time // when to dial again; zero = it need not
}

const (
	// stormersTurn bounds how long stormers do not look whether there is something to do that is not on a socket.
	stormersTurn = 20 * time.Millisecond
	// stormersBatch is how many connections are cut, and dialled, before those that are ready have their turn.
	stormersBatch = 64
)

// Run opens the sessions that it is told to, lets them come back for every null, and holds them until its input ends.
func (benchStormersCmd) Run(ctx context.Context, io *stdio) error {
	in, out := json.NewDecoder(io.in), json.NewEncoder(io.out)
	order, _, hellos, err := takeOrder(in)
	if err != nil {
		return err
	}
	f, err := newFlock(order.Target.URL, hellos)
	if err != nil {
		return err
	}
	defer f.close()
	s := &stormers{flock: f, clients: make([]stormer, len(hellos))}
	opened, err := s.openAll(ctx, order.Concurrency)
	if err != nil {
		return err
	}
	if err := out.Encode(opened); err != nil {
		return err
	}
	stop := s.hold()
	err = eachNull(in, func() error {
		if err := stop(); err != nil {
			return err
		}
		report, err := s.rage(ctx)
		if err == nil {
			err = out.Encode(report)
		}
		stop = s.hold()
		return err
	})
	return errors.Join(err, stop())
}

// hold answers pings until stop is called, which returns what went wrong meanwhile.
func (s *stormers) hold() (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var holding sync.WaitGroup
	var err error
	holding.Go(func() {
		for ctx.Err() == nil && err == nil {
			err = s.turn(stormersTurn)
		}
	})
	return func() error {
		cancel()
		holding.Wait()
		return err
	}
}

// dialFirst has client i lose its connection, if it has one, and dial.
func (s *stormers) dialFirst(i int) {
	s.cut(i)
	s.clients[i] = stormer{cut: time.Now(), delay: time.Second}
	s.pending++
	s.dial(i)
}

// openAll connects all, a few at a time.
func (s *stormers) openAll(ctx context.Context, concurrency int) (r crowdReport, err error) {
	r.Start = time.Now()
	s.heard = func(i int, err error) {
		s.pending--
		if err == nil {
			r.Latency = append(r.Latency, time.Since(s.clients[i].cut))
		} else if r.Failed++; r.Failed == 1 {
			r.FirstErr = err.Error()
		}
	}
	for i := 0; i < len(s.clients) || s.pending > 0; {
		for ; i < len(s.clients) && s.pending < concurrency; i++ {
			s.dialFirst(i)
		}
		if err := s.next(ctx); err != nil {
			return r, err
		}
	}
	r.End = time.Now()
	return r, nil
}

// next is a turn while something is pending.
func (s *stormers) next(ctx context.Context) error {
	if now := time.Now(); now.Sub(s.looked) > stormersTurn {
		s.looked = now
		s.late(now)
		s.retry(now)
	}
	return errors.Join(ctx.Err(), s.turn(stormersTurn))
}

// rage cuts every connection; each client comes back the moment that it lost its own, as page 3 of the specification advises clients
// to: at once, then when it was told to, else with backoff.
func (s *stormers) rage(ctx context.Context) (r stormReport, err error) {
	r = stormReport{Start: time.Now(), Told: map[string]int{}}
	patience := r.Start.Add(stormPatience)
	s.heard = func(i int, err error) {
		s.pending--
		s.note(&r, i, err)
	}
	for i := range s.clients {
		if s.dialFirst(i); i%stormersBatch == 0 {
			if err := s.turn(0); err != nil {
				return r, err
			}
		}
	}
	for len(r.Welcome) < len(s.clients) && time.Now().Before(patience) {
		if err := s.next(ctx); err != nil {
			return r, err
		}
	}
	return r, nil
}

// note takes down what client i was told.
func (s *stormers) note(r *stormReport, i int, err error) {
	now, c := time.Now(), &s.clients[i]
	r.Dials++
	if err == nil {
		r.Cut = append(r.Cut, c.cut.Sub(r.Start))
		r.Welcome = append(r.Welcome, now.Sub(c.cut))
		return
	}
	wait, kind := c.delay/2+rand.N(c.delay/2), "broken"
	if no := (*refusedError)(nil); errors.As(err, &no) {
		kind = strconv.Itoa(no.code)
		if no.wait > 0 {
			wait = no.wait
		}
	}
	c.delay, c.again = min(2*c.delay, time.Minute), now.Add(wait)
	r.Told[kind]++
	if r.FirstErr == "" {
		r.FirstErr = err.Error()
	}
}

// retry dials for those whose time has come.
func (s *stormers) retry(now time.Time) {
	for i := range s.clients {
		if c := &s.clients[i]; !c.again.IsZero() && c.again.Before(now) {
			c.again = time.Time{}
			s.pending++
			s.dial(i)
		}
	}
}
