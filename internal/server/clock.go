package server

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
)

const (
	clockInterval = 5 * time.Second // between two looks at the database's clock
	// clockTolerance is how far the node's clock may be from the database's: tokens from the future are refused past it (page 3).
	clockTolerance = api.IssuedAtSkew
)

// watchClock compares the node's wall clock with the database's, which all nodes share. It corrects nothing: that the database's is the
// right one nobody knows, and a cluster that followed a wrong one would refuse everybody's tokens at once, not one node some. Who runs
// it is told.
func (s *Server) watchClock(ctx context.Context) error {
	gauge := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "rollcall_clock_offset_seconds", Help: "By how much the node's clock is ahead of the database's, as far as its answer took no time.",
	}, func() float64 { return s.clockAhead().Seconds() })
	s.metrics.MustRegister(gauge)
	return every(ctx, clockInterval, func() {
		before := s.clockTrouble()
		s.lookAtClock(ctx)
		if now := s.clockTrouble(); now != nil && before == nil {
			s.log.Warn("the clock is off", "err", now)
		}
	})
}

// lookAtClock takes for the offset what cannot be the time that the answer took.
func (s *Server) lookAtClock(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, beatTimeout)
	defer cancel()
	asked := s.tenants.Now()
	theirs, err := s.db.Nodes().Now(ctx)
	answered := s.tenants.Now()
	if err != nil {
		return // which others tell of
	}
	s.clock.Store(int64(max(asked-theirs, 0) + min(answered-theirs, 0)))
}

// clockAhead returns by how much the node's clock is ahead of the database's; negative when it is behind.
func (s *Server) clockAhead() time.Duration { return time.Duration(s.clock.Load()) * time.Millisecond }

// clockTrouble returns what is wrong with the clock, for readiness; nil when nothing is.
func (s *Server) clockTrouble() error {
	ahead := s.clockAhead()
	if ahead.Abs() <= clockTolerance {
		return nil
	}
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	return fmt.Errorf("this node's clock is %s %s the database's, and tokens and keys are judged by it", ahead.Abs().Round(time.Second), way)
}
