package manage_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
)

// away is who is missing: srv-02 or nobody.
type away struct{ atomic.Bool }

func (a *away) missing() []string {
	if a.Load() {
		return []string{"srv-02"}
	}
	return nil
}

// TestPartialNodes: whatever depends on rows says that nodes are missing, before it says so of the store.
func TestPartialNodes(t *testing.T) {
	var nodes away
	k := newKitWith(t, manage.Limits{}, nodes.missing)
	open := func() api.SessionID { return k.open(desktop, ms(), nil).Session }
	one := open()
	requests := func() []request {
		return []request{
			{path: api.LivePath + "?applicationId=123456789"}, {path: sessionsPath(desktop)}, {path: sessionsPath(desktop) + "?status=all"},
			{path: sessionPath(desktop, one)}, {path: sessionPath(desktop, unopened)}, {path: appPath(desktop)}, {path: applicationsPath},
			{path: "/api/v1/account/limits"}, {method: http.MethodDelete, path: sessionPath(desktop, open())},
			{method: http.MethodDelete, path: sessionPath(desktop, unopened)}, {method: http.MethodDelete, path: sessionsPath(desktop)},
		}
	}
	for _, missing := range []bool{false, true} {
		nodes.Store(missing)
		want := ""
		if missing {
			want = "nodes"
		}
		for _, r := range requests() {
			if a := k.do(r); a.header.Get("Rollcall-Partial") != want || a.status >= 500 {
				t.Errorf("%s %s: %d %v", r.method, r.path, a.status, a.header)
			}
		}
	}
	kept := open()
	k.recorder.Flush(t.Context())
	k.records.fail(errAway)
	for _, r := range []request{{path: sessionsPath(desktop) + "?status=all"}, {path: sessionPath(desktop, kept)}, {path: appPath(desktop)},
		{method: http.MethodDelete, path: sessionPath(desktop, kept)}} {
		if a := k.do(r); a.status != http.StatusOK || a.header.Get("Rollcall-Partial") != "nodes, store" {
			t.Errorf("%s %s: %d %v", r.method, r.path, a.status, a.header)
		}
	}
}

// TestPartialTotals: streams that asked for totals are told when nodes go missing and come back, though nothing else changes.
func TestPartialTotals(t *testing.T) {
	var nodes away
	k := newKitWith(t, manage.Limits{}, nodes.missing)
	k.open(desktop, ms(), nil)
	plain, told := k.watch(fullKey, "applicationId=123456789"), k.watch(fullKey, "applicationId=123456789&totals=true")
	next := func(p *peer) string {
		t.Helper()
		data, err := p.next(5 * time.Second)
		if err != nil {
			t.Fatal(err)
		}
		p.apply(data)
		return string(data)
	}
	totals := func(n string, partial string) string {
		return `{"type":"totals","total":` + n + `,"filteredTotal":` + n + `,"authorizedSessionCount":` + n + partial + `}`
	}
	const partial = `,"partial":"nodes"`
	nodes.Store(true)
	if got := next(told); got != totals("1", partial) {
		t.Error(got)
	}
	told.quiet(t)
	k.open(desktop, ms(), nil)
	for got := ""; !strings.Contains(got, "totals"); {
		if got = next(told); strings.Contains(got, "totals") && got != totals("2", partial) {
			t.Error(got)
		}
	}
	late := k.watch(fullKey, "applicationId=123456789&totals=true")
	if got := next(late); got != totals("2", partial) {
		t.Error(got)
	}
	late.send(`{"type":"query","page":2}`)
	if kind := late.read(); kind != api.TypeInit {
		t.Error(kind)
	}
	if got := next(late); got != totals("2", partial) {
		t.Error(got)
	}
	nodes.Store(false)
	for _, p := range []*peer{told, late} {
		if got := next(p); got != totals("2", "") {
			t.Error(got)
		}
	}
	plain.settle("applicationId=123456789")
	plain.quiet(t)
	for _, kind := range plain.seen {
		if kind == api.TypeTotals {
			t.Error("totals without being asked")
		}
	}
}
