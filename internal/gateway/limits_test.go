package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

func refusals(limit string) string {
	return fmt.Sprintf("rollcall_limit_refusals_total{limit=%q}", limit)
}

// TestLimitsAreCounted: every limit that a client meets is counted under its name, once, and no other is.
func TestLimitsAreCounted(t *testing.T) {
	tests := []struct {
		limit  string
		set    Limits
		value  float64 // as the metrics show it
		exceed func(f *fixture)
	}{
		{limitHelloTimeout, Limits{HelloTimeout: 7 * time.Second}, 7, func(f *fixture) {
			wantLast(f.connect(), "close 4202")
		}},
		{limitFrames, Limits{FrameBurst: 1, FramesPerMinute: 1}, 1, func(f *fixture) {
			c := f.openKey()
			c.text(`{"type":"activity"}`)
			wantLast(c, "close 4201")
		}},
		{limitFrameSize, Limits{MaxFrame: 200}, 200, func(f *fixture) {
			c := f.openKey()
			c.text(`{"type":"activity","x":"` + strings.Repeat("x", 200) + `"}`)
			wantLast(c, "close 1009")
		}},
		{limitFrameSize, Limits{MaxFrame: 200}, 200, func(f *fixture) { // before it is a session
			c := f.connect()
			c.text(`{"type":"hello","x":"` + strings.Repeat("x", 200) + `"}`)
			wantLast(c, "close 1009")
		}},
		{limitPongTimeout, Limits{PongTimeout: 3 * time.Second}, 3, func(f *fixture) {
			c := f.openKey()
			if got := c.next(); got != "ping " {
				t.Error(got)
			}
			time.Sleep(4 * time.Second)
			synctest.Wait()
		}},
		{limitHellos, Limits{HellosInFlight: 1}, 1, func(f *fixture) {
			f.g.hellos <- struct{}{}
			c := f.connect()
			c.text(`{"type":"hello","publishableKey":"` + pubKey + `"}`)
			wantLast(c, "close 1013")
			<-f.g.hellos
		}},
	}
	for _, tt := range tests {
		t.Run(tt.limit, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newPipeFixture(t, tt.set)
				if got := f.metric(refusals(tt.limit)); got != 0 {
					t.Errorf("%v before", got)
				}
				tt.exceed(f)
				synctest.Wait()
				for name := range f.g.metrics.limits {
					want := 0.0
					if name == tt.limit {
						want = 1
					}
					if got := f.metric(refusals(name)); got != want {
						t.Errorf("%s: %v, want %v", name, got, want)
					}
				}
				if got := f.metric(fmt.Sprintf("rollcall_limit{limit=%q}", tt.limit)); got != tt.value {
					t.Errorf("set to %v, want %v", got, tt.value)
				}
			})
		})
	}
}

func wantLast(c *client, prefix string) {
	c.Helper()
	all := c.rest()
	if len(all) == 0 || !strings.HasPrefix(all[len(all)-1], prefix) {
		c.Errorf("got %q, want %s at the end", all, prefix)
	}
}

// TestMaxSessions: at the bound an upgrade is told when to come back; every connection counts, from before its hello until it is
// closed; a place that is given back can be taken.
func TestMaxSessions(t *testing.T) {
	f := newFixture(t, Limits{MaxSessions: 2, ConnectionsPerAddress: 5})
	upgrade := func() *http.Response {
		c := &client{TB: t, Conn: f.dial()}
		t.Cleanup(func() { c.Close() })
		return c.rawRequest("GET", nil)
	}
	f.connect()
	c := f.openKey()
	for range 3 {
		wantHTTP(t, upgrade(), 503, api.CodeUnavailable, "Retry-After")
	}
	c.text(`{"type":"bye"}`)
	c.rest()
	for range 500 {
		if f.g.Sockets() == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	c = f.openKey()
	if n := f.g.Sockets(); n != 2 {
		t.Errorf("%d sockets", n)
	}
	c.Close()
	for range 500 {
		if f.g.Sockets() == 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	f.full.Store(true)
	wantHTTP(t, upgrade(), 503, api.CodeUnavailable, "Retry-After")
	if got := f.metric(refusals(limitSessions)); got != 4 {
		t.Errorf("%v were counted", got)
	}
	if got := f.metric(refusals(limitPerAddress)); got != 0 {
		t.Errorf("%v were counted as another limit", got)
	}
}
