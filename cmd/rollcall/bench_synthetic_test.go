package main

import (
	"context"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
)

func testSynthetic(t *testing.T, rows int) (synthetic, *registry.Registry) {
	t.Helper()
	s := newSynthetic(api.NewID[api.Organization](), api.NewID[api.Application](), rows, api.MillisOf(time.Now()))
	reg := registry.New(registry.Config{})
	reg.SetApplication(s.org, s.app, registry.Gate{State: api.ApplicationActive}, 0)
	if err := s.fill(reg, rows); err != nil {
		t.Fatal(err)
	}
	return s, reg
}

// TestSyntheticRows: the lengths are those of the budget, the same number is the same session, and no two are one.
func TestSyntheticRows(t *testing.T) {
	const n = 20_000
	s, reg := testSynthetic(t, n) // two equal ids would be refused
	if got := reg.Stats().Sessions; got != n {
		t.Fatalf("%d rows, want %d", got, n)
	}
	licenses := map[string]bool{}
	for i := range n {
		row := s.row(i)
		if len(row.License) != 17 || len(row.IP) != 13 || len(row.ClientID) != 12 || len(row.Login) != 20 {
			t.Fatalf("row %d: %q %q %q %q", i, row.License, row.IP, row.ClientID, row.Login)
		}
		if row != s.row(i) {
			t.Fatalf("row %d is not the same twice", i)
		}
		if _, id, ok := row.ServerID.Split(); !ok || id != row.Session || row.Session[6]>>4 != 7 || row.Session[8]>>6 != 2 {
			t.Fatalf("row %d: %s is not of version 7 (%s)", i, row.Session, row.ServerID)
		}
		licenses[row.License] = true
	}
	if len(licenses) < n*99/100 {
		t.Errorf("%d different licenses", len(licenses))
	}
}

// TestChurn: every change is one that the registry takes, and their number is the rate's.
func TestChurn(t *testing.T) {
	s, reg := testSynthetic(t, 200)
	c := newChurn(reg, s, 200)
	c.start(context.Background(), churnOrder{PerSecond: 20_000})
	time.Sleep(200 * time.Millisecond)
	c.halt()
	r := c.report()
	if r.Err != "" || r.Changes < 500 || r.Took.N != r.Changes {
		t.Errorf("%+v", r)
	}
	if got := reg.Stats().Sessions; got != len(c.live) {
		t.Errorf("%d rows are in the registry, %d should be", got, len(c.live))
	}
	if r := c.report(); r.Changes != 0 {
		t.Errorf("after halt: %+v", r)
	}
}
