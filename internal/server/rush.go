package server

import (
	"context"
	"runtime/debug"
	"time"
)

const (
	// rushOver is how long no newcomer has to wait at the door when a rush is over.
	rushOver = 250 * time.Millisecond
	// rushMost is how long a rush is given way, and how long it is not after that: what waits meanwhile is bounded.
	rushMost = 5 * time.Second
	// rushCollect is the collector's percentage meanwhile (GOGC): the heap grows to four times what lives, and trim returns it.
	rushCollect = 300
)

// giveWay puts off what can wait while newcomers wait at the door, as after the restart of a load balancer: collections of garbage,
// and the records of sessions that ended, for which nobody waits and which lists know meanwhile. Together they take a fifth of the
// processors from those who come back.
func (s *Server) giveWay(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.rush:
		}
		percent := debug.SetGCPercent(rushCollect)
		release := s.recorder.Hold(rushMost)
		long := s.rushLasts(ctx)
		release()
		debug.SetGCPercent(percent)
		if long {
			sleep(ctx, rushMost)
		}
	}
}

// rushLasts returns when the rush is over, or has lasted for rushMost, which it tells.
func (s *Server) rushLasts(ctx context.Context) (long bool) {
	most, over := time.NewTimer(rushMost), time.NewTimer(rushOver)
	defer most.Stop()
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-most.C:
			return true
		case <-over.C:
			return false
		case <-s.rush:
			over.Reset(rushOver)
		}
	}
}

// rushed says that a newcomer waits at the door.
func (s *Server) rushed() {
	select {
	case s.rush <- struct{}{}:
	default:
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
