package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"syscall"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// drainResult is SIGTERM to a server that holds sessions, and what its next life finds.
type drainResult struct {
	Sessions int `json:"sessions"`
	endsResult
	Retry   moments               `json:"retryAfterMs"` // the spread: least, median, most
	Exit    int                   `json:"exit"`
	Seconds float64               `json:"exitSeconds"`      // from SIGTERM
	Reasons map[api.EndReason]int `json:"recordedEndings"`  // of all records, after a restart
	Open    int                   `json:"openRecords"`      // after the drain: ended only by the restart, or not at all
	Ready   float64               `json:"restartReadySecs"` // until the new process answered
}

// drainLimit is --drain as serve has it by default; clients are spread over its half.
const drainLimit = 20 * time.Second

// drain holds sessions, sends SIGTERM, and counts in another life of the same directory what was recorded.
func (b *bench) drain(ctx context.Context, errs io.Writer) (*drainResult, error) {
	srv, err := b.serve(ctx, serverOrder{Drain: drainLimit}, errs)
	if err != nil {
		return nil, err
	}
	defer srv.stop()
	b.progress("connecting %d sessions", b.cmd.Sessions)
	crowd, err := startCrowd(ctx, b.target, b.cmd.Sessions, b.cmd.Concurrency, errs)
	if err != nil {
		return nil, err
	}
	defer crowd.stop()
	r := &drainResult{Sessions: b.cmd.Sessions, Reasons: map[api.EndReason]int{}}

	b.progress("draining")
	start := time.Now()
	if err := srv.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return nil, err
	}
	for b.ready(ctx) { // once it drains, its input may end: it waits for that too
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return nil, err
		}
	}
	srv.child.stop()
	r.Seconds, r.Exit = time.Since(start).Seconds(), srv.cmd.ProcessState.ExitCode()
	ends, err := crowd.ended(ctx)
	if err != nil {
		return nil, err
	}
	r.endsResult, r.Retry = endsOf(ends, api.CloseGoingAway, start), retriesOf(ends)

	b.progress("counting records")
	start = time.Now()
	if err := srv.start(ctx, errs); err != nil {
		return nil, err
	}
	r.Ready = time.Since(start).Seconds()
	b.target = srv.target
	if err := b.reach(ctx); err != nil {
		return nil, err
	}
	for s, err := range b.m.Sessions(ctx, b.app, client.SessionQuery{Status: "all", Limit: 1000, Details: true}) {
		if err != nil {
			return nil, err
		}
		r.Reasons[s.Details.EndReason]++
	}
	r.Open = r.Reasons[""] + r.Reasons[api.EndServerStopped]
	return r, nil
}

// retriesOf returns the spread of what clients were told to wait.
func retriesOf(ends []clientEnd) moments {
	var waits []time.Duration
	for _, e := range ends {
		waits = append(waits, time.Duration(e.Retry)*time.Millisecond)
	}
	return momentsOf(waits)
}

// failure returns what a drain must not do.
func (r *drainResult) failure() error {
	switch {
	case r.Exit != exitFine:
		return fmt.Errorf("drain: the server exited with %d", r.Exit)
	case r.Seconds > drainLimit.Seconds():
		return fmt.Errorf("drain: the server took %.1f s, more than its %s", r.Seconds, drainLimit)
	case r.Events != r.Sessions || r.Wrong > 0:
		return fmt.Errorf("drain: %d of %d clients were told, %d not as they should be", r.Events, r.Sessions, r.Wrong)
	case r.Retry.First <= 0 && r.Sessions > 0:
		return fmt.Errorf("drain: a client was not told when to come back")
	case r.Open > 0 || r.Reasons[api.EndNodeDraining] != r.Sessions:
		return fmt.Errorf("drain: %d records were left open, and of %d sessions %d are recorded as drained (all: %v)",
			r.Open, r.Sessions, r.Reasons[api.EndNodeDraining], slices.Sorted(maps.Keys(r.Reasons)))
	}
	return nil
}
