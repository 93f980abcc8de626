package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

func TestClusterFailure(t *testing.T) {
	sound := func() *threeResult {
		return &threeResult{
			Nodes: 3, Sessions: 10, Watch: &watchResult{}, Disconnect: &disconnectResult{},
			Restart: &restartResult{Ready: 0.1, Complete: 9, Listed: 10},
			Kill:    &killResult{List: []float64{3, 9}, Stream: []float64{3, 9}, Slowest: 9},
			Revoke:  &clusterRevoke{revokeResult: revokeResult{Count: 10, endsResult: endsResult{Events: 10, Closes: 10}}},
		}
	}
	for name, c := range map[string]struct {
		change func(*threeResult)
		want   string // "" = sound
	}{
		"slow is not broken":             {func(*threeResult) {}, ""},
		"a restarted node lacks some":    {func(r *threeResult) { r.Restart.Listed = 9 }, "restarted lists 9"},
		"a restarted node has ghosts":    {func(r *threeResult) { r.Restart.Listed = 11 }, "restarted lists 11"},
		"a list keeps the dead":          {func(r *threeResult) { r.Kill.List[1] = 0 }, "killed"},
		"a stream keeps the dead":        {func(r *threeResult) { r.Kill.Stream[0] = 0 }, "killed"},
		"revoke-all counts too few":      {func(r *threeResult) { r.Revoke.Count = 9 }, "counted 9"},
		"revoke-all counts twice":        {func(r *threeResult) { r.Revoke.Count = 20 }, "counted 20"},
		"a client was not told":          {func(r *threeResult) { r.Revoke.Events = 9 }, "told 9"},
		"a client was told wrongly":      {func(r *threeResult) { r.Revoke.Wrong = 1 }, "1 clients"},
		"a session is left after revoke": {func(r *threeResult) { r.Revoke.Listed = 1 }, "1 sessions were listed"},
	} {
		r := sound()
		c.change(r)
		err := (&benchResult{Cluster: &clusterResult{Three: r}}).failure()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClusterTable: also what was not measured is said.
func TestClusterTable(t *testing.T) {
	var out strings.Builder
	r := benchResult{Cluster: &clusterResult{Skipped: "PostgreSQL is not here"}}
	if err := r.table().print(&out); err != nil || !strings.Contains(out.String(), "not measured: PostgreSQL is not here") {
		t.Errorf("%v: %s", err, out.String())
	}
}

func TestFirstAfter(t *testing.T) {
	start := time.Unix(100, 0)
	notes := []note{
		{kind: api.TypeTotals, total: 0, at: start.Add(-time.Second)}, // of before
		{kind: api.TypeRemoved, at: start.Add(time.Second)},
		{kind: api.TypeTotals, total: 4, at: start.Add(2 * time.Second)},
		{kind: api.TypeTotals, total: 0, at: start.Add(3 * time.Second)},
		{kind: api.TypeTotals, total: 0, at: start.Add(4 * time.Second)},
	}
	if got := firstAfter(notes, start, emptied); got != 3*time.Second {
		t.Errorf("%s", got)
	}
	if got := firstAfter(notes[:3], start, emptied); got != 0 {
		t.Errorf("%s of what never came", got)
	}
}

func TestEventually(t *testing.T) {
	broken := errors.New("broken")
	for name, c := range map[string]struct {
		answers []error // nil = not yet; the last one for ever
		yes     int     // the call that says yes; 0 = none
		want    string
		took    time.Duration
	}{
		"at once": {yes: 1},
		"later":   {yes: 3, took: 10 * time.Millisecond},
		"never":   {want: "it never came", took: clusterPatience},
		"broken":  {answers: []error{nil, broken}, want: "broken", took: 5 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			start, calls := time.Now(), 0
			err := eventually(t.Context(), "it never came", func(context.Context) (bool, error) {
				calls++
				if len(c.answers) > 0 {
					return false, c.answers[min(calls, len(c.answers))-1]
				}
				return calls == c.yes, nil
			})
			if got := time.Since(start); got != c.took || (err == nil) != (c.want == "") || err != nil && err.Error() != c.want {
				t.Errorf("%s: %v after %s", name, err, got)
			}
		})
	}
}

func TestFreeAddresses(t *testing.T) {
	addrs, err := freeAddresses(t.Context(), 5)
	if slices.Sort(addrs); err != nil || len(slices.Compact(addrs)) != 5 {
		t.Errorf("%v %v", addrs, err)
	}
}
