package main

import (
	"context"
	"errors"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
)

var t0 = time.Date(2026, 5, 12, 12, 0, 0, 0, time.UTC)

func after(ms int) time.Time { return t0.Add(time.Duration(ms) * time.Millisecond) }

// TestEndsAreJudged: only a client that heard the event and then the close frame, both with the code, is right.
func TestEndsAreJudged(t *testing.T) {
	good := clientEnd{Code: 4103, Close: 4103, Event: after(20), End: after(30)}
	for name, c := range map[string]struct {
		bad  clientEnd
		want endsResult
	}{
		"nothing":         {clientEnd{}, endsResult{Events: 1, Closes: 1, Wrong: 1}},
		"no close frame":  {clientEnd{Code: 4103, Event: after(40)}, endsResult{Events: 2, Closes: 1, Wrong: 1}},
		"no event":        {clientEnd{Close: 4103, End: after(40)}, endsResult{Events: 1, Closes: 2, Wrong: 1}},
		"another code":    {clientEnd{Code: 4100, Close: 4100, Event: after(1), End: after(2)}, endsResult{Events: 1, Closes: 1, Wrong: 1}},
		"other at close":  {clientEnd{Code: 4103, Close: 1000, Event: after(40), End: after(41)}, endsResult{Events: 2, Closes: 1, Wrong: 1}},
		"the wrong order": {clientEnd{Code: 4103, Close: 4103, Event: after(40), End: after(39)}, endsResult{Events: 2, Closes: 2, Wrong: 1}},
		"good":            {clientEnd{Code: 4103, Close: 4103, Event: after(40), End: after(40)}, endsResult{Events: 2, Closes: 2}},
	} {
		got := endsOf([]clientEnd{c.bad, good}, 4103, t0)
		if got.Events != c.want.Events || got.Closes != c.want.Closes || got.Wrong != c.want.Wrong {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
		if got.Event.First != 20 {
			t.Errorf("%s: the first event at %g", name, got.Event.First)
		}
	}
	var ends []clientEnd
	for _, ms := range []int{9, 5, 7, 6, 8} {
		ends = append(ends, clientEnd{Code: 1001, Close: 1001, Event: after(ms), End: after(2 * ms), Retry: int64(ms)})
	}
	got := endsOf(ends, 1001, t0)
	if want := (endsResult{Events: 5, Closes: 5, Event: moments{5, 7, 9}, Close: moments{10, 14, 18}}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got, want := retriesOf(ends), (moments{5, 7, 9}); got != want {
		t.Errorf("retries %+v, want %+v", got, want)
	}
	if endsOf(nil, 1001, t0) != (endsResult{}) {
		t.Error("nobody heard something")
	}
}

// TestHeardEnd takes what servers may send last, in the order in which they do.
func TestHeardEnd(t *testing.T) {
	event := ws.NewTextFrame([]byte(`{"type":"disconnect","code":4100,"retryAfterMs":70}`))
	closing := func(code ws.StatusCode) ws.Frame { return ws.NewCloseFrame(ws.NewCloseFrameBody(code, "x")) }
	for name, c := range map[string]struct {
		frames []ws.Frame
		want   clientEnd
	}{
		"both":        {[]ws.Frame{ws.NewTextFrame([]byte(`{"type":"authorized"}`)), event, closing(4100)}, clientEnd{Code: 4100, Close: 4100, Retry: 70}},
		"lost":        {nil, clientEnd{}},
		"event alone": {[]ws.Frame{event}, clientEnd{Code: 4100, Retry: 70}},
		"close alone": {[]ws.Frame{closing(1000), event}, clientEnd{Close: 1000}},
		"other":       {[]ws.Frame{event, closing(1001)}, clientEnd{Code: 4100, Close: 1001, Retry: 70}},
	} {
		ours, theirs := net.Pipe()
		go func() {
			for _, f := range c.frames {
				if ws.WriteFrame(theirs, f) != nil {
					break // it reads no further than the close frame
				}
			}
			theirs.Close()
		}()
		got := (&wire{conn: ours, buf: make([]byte, wireBuffer)}).heardEnd()
		ours.Close()
		if got.Event.IsZero() != (c.want.Code == 0) || got.End.IsZero() != (c.want.Close == 0) {
			t.Errorf("%s: times %s and %s", name, got.Event, got.End)
		}
		if got.Event, got.End = (time.Time{}), (time.Time{}); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestStreamIsJudged(t *testing.T) {
	notes := []note{
		{kind: api.TypeInit, at: after(-5)}, {kind: api.TypeRemoved, at: after(-1)},
		{kind: api.TypeRemoved, at: after(10)}, {kind: api.TypeTotals, total: 7, at: after(10)},
		{kind: api.TypeRemoved, at: after(60)}, {kind: api.TypeRemoved, at: after(90)}, {kind: api.TypeTotals, at: after(90)},
		{kind: api.TypeAdded, at: after(500)}, {kind: api.TypeTotals, at: after(900)},
	}
	want := streamResult{Removed: moments{10, 60, 90}, Totals: moments{10, 10, 90}, EmptyMs: 90, Gap: 50, Flushes: 3}
	if got := streamOf(notes, t0); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, c := range []struct {
		start, end int
		want       float64
	}{{0, 100, 50}, {0, 300, 210}, {-100, 20, 95}, {600, 700, 100}} {
		if got := longestGap(notes, after(c.start), after(c.end)); got != c.want {
			t.Errorf("%d to %d: the longest gap is %g, want %g", c.start, c.end, got, c.want)
		}
	}
}

// TestStormIsJudged: a client that is missing, a session that was lost and a list that is wrong each fail it.
func TestStormIsJudged(t *testing.T) {
	ms := func(n ...int) (d []time.Duration) {
		for _, n := range n {
			d = append(d, time.Duration(n)*time.Millisecond)
		}
		return d
	}
	r := stormResult{Sessions: 4, Held: 2, Told: map[string]int{}, Listed: 6, Expected: 6}
	r.judge([]stormReport{
		{Start: after(100), Cut: ms(0, 100), Welcome: ms(500, 900), Dials: 2},
		{Start: after(50), Cut: ms(0, 5), Welcome: ms(2000, 30), Dials: 5, Told: map[string]int{"1013": 2, "503": 1}, FirstErr: "no"},
	})
	if r.Seconds != 2 || r.PerSecond != 2 || r.Welcome.Max != 2000 || r.Welcome.P50 != 500 || r.Dials != 7 || r.Missing != 0 ||
		!maps.Equal(r.Told, map[string]int{"1013": 2, "503": 1}) {
		t.Errorf("%+v", r)
	}
	if err := r.failure(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(*stormResult){
		"missing": func(r *stormResult) { r.Missing = 1 }, "lost": func(r *stormResult) { r.HeldLost = 1 }, "list": func(r *stormResult) { r.Listed++ },
	} {
		bad := r
		if spoil(&bad); bad.failure() == nil {
			t.Errorf("%s is no failure", name)
		}
	}
	none := stormResult{Sessions: 1, Told: map[string]int{}}
	if none.judge([]stormReport{{Start: t0}}); none.Missing != 1 || math.IsNaN(none.PerSecond) {
		t.Errorf("nobody came back: %+v", none)
	}
}

func TestDrainIsJudged(t *testing.T) {
	good := func() drainResult {
		return drainResult{Sessions: 3, endsResult: endsResult{Events: 3, Closes: 3}, Retry: moments{1, 2, 3}, Seconds: 1,
			Reasons: map[api.EndReason]int{api.EndNodeDraining: 3}}
	}
	if r := good(); r.failure() != nil {
		t.Error(r.failure())
	}
	for name, spoil := range map[string]func(*drainResult){
		"exit": func(r *drainResult) { r.Exit = 1 }, "slow": func(r *drainResult) { r.Seconds = 21 }, "untold": func(r *drainResult) { r.Events = 2 },
		"wrong": func(r *drainResult) { r.Wrong = 1 }, "no retry": func(r *drainResult) { r.Retry.First = 0 }, "open": func(r *drainResult) { r.Open = 1 },
		"unrecorded": func(r *drainResult) { r.Reasons[api.EndNodeDraining] = 2 },
	} {
		r := good()
		if spoil(&r); r.failure() == nil {
			t.Errorf("%s is no failure", name)
		}
	}
}

// TestLeaksAreFound: each count that grew is named, and a heap may breathe.
func TestLeaksAreFound(t *testing.T) {
	before := soakCounts{Goroutines: 20, Descriptors: 15, Heap: 10 << 20}
	fine := soakCounts{Goroutines: 18, Descriptors: 15, Heap: 11 << 20}
	if leaks := fine.leaks(before); len(leaks) > 0 {
		t.Errorf("fine, but %q", leaks)
	}
	for want, spoil := range map[string]func(*soakCounts){
		"goroutines":  func(c *soakCounts) { c.Goroutines = 21 },
		"descriptors": func(c *soakCounts) { c.Descriptors = 16 },
		"heap bytes":  func(c *soakCounts) { c.Heap = 12 << 20 },
		"rows":        func(c *soakCounts) { c.Rows = 1 },
		"connections": func(c *soakCounts) { c.Connections = 1 },
		"sessions":    func(c *soakCounts) { c.Unended = 1 },
	} {
		c := fine
		spoil(&c)
		if leaks := c.leaks(before); len(leaks) != 1 || !strings.HasPrefix(leaks[0], want) {
			t.Errorf("%s: %q", want, leaks)
		}
		if r := (&soakResult{Leaks: c.leaks(before)}); r.failure() == nil {
			t.Errorf("%s is no failure", want)
		}
	}
}

// TestSoakIsADay holds the count of docs/performance.md, and that every round has every kind of life.
func TestSoakIsADay(t *testing.T) {
	if got := hoursOf(3_456_000, 1000); math.Abs(got-24) > 1e-9 {
		t.Errorf("%g hours", got)
	}
	if len(kindsOfLives)%37 == 0 || len(kindsOfLives)%61 == 0 {
		t.Fatalf("%d kinds have a factor in common with the steps through them", len(kindsOfLives))
	}
	for round := range 3 {
		seen := map[string]int{}
		for n := range kindsOfLives {
			seen[lifeOf(n, round).name]++
		}
		for _, k := range lifeKinds {
			if seen[k.name] != k.weight {
				t.Errorf("round %d: %d sessions of %d: %s, want %d", round, seen[k.name], len(kindsOfLives), k.name, k.weight)
			}
		}
	}
}

func TestReadMetrics(t *testing.T) {
	got, err := readMetrics(strings.NewReader("# HELP a b\na{x=\"1 2\"} 3\na{x=\"4\"} 1.5\n\ngo_goroutines 12\n"))
	want := metricSums{"a": 4.5, `a{x="1 2"}`: 3, `a{x="4"}`: 1.5, "go_goroutines": 12}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := readMetrics(strings.NewReader("a b\n")); err == nil {
		t.Error("a value that is no number was read")
	}
}

func TestStraightLine(t *testing.T) {
	for _, c := range []struct {
		points           []chartPoint
		intercept, slope float64
	}{
		{nil, 0, 0}, {[]chartPoint{{5, 7}}, 7, 0}, {[]chartPoint{{1, 5}, {2, 7}, {4, 11}}, 3, 2},
		{[]chartPoint{{0, 0}, {0, 2}, {2, 5}, {2, 3}}, 1, 1.5},
	} {
		a, b := straightLine(c.points)
		if math.Abs(a-c.intercept) > 1e-9 || math.Abs(b-c.slope) > 1e-9 {
			t.Errorf("%v: %g + %g x", c.points, a, b)
		}
	}
}

// TestIdleChartBeginsWithoutSessions: the intercept is drawn, whatever the order of the populations.
func TestIdleChartBeginsWithoutSessions(t *testing.T) {
	g := idleGrowth{Populations: []*idleResult{
		{Sessions: 4000, EmptyRSS: 30 << 20, RSS: 40 << 20}, {Sessions: 1000, EmptyRSS: 10 << 20, RSS: 32 << 20}, {Sessions: 2000, EmptyRSS: 20 << 20, RSS: 35 << 20},
	}}
	c := g.chart()
	if want := []chartPoint{{0, 20}, {1000, 32}, {2000, 35}, {4000, 40}}; !c.linear || !slices.Equal(c.lines[0].points, want) {
		t.Errorf("%v, want %v", c.lines[0].points, want)
	}
	if want := []chartPoint{{0, 20}, {4000, 20 + 4000*5./1024}}; !slices.Equal(c.lines[1].points, want) {
		t.Errorf("budget %v, want %v", c.lines[1].points, want)
	}
}

// TestRefusalsAreRead: a client of the benchmark knows what it was told before it was let in.
func TestRefusalsAreRead(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != api.ConnectPath {
			t.Errorf("asked for %s", r.URL)
		}
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"code":"unavailable"}`))
	}))
	defer srv.Close()
	d, err := newDialer(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, _, err = d.open(context.Background(), []byte("{}"))
	no := (*refusedError)(nil)
	if !errors.As(err, &no) || no.code != 503 || no.wait != 7*time.Second || !strings.Contains(no.text, "unavailable") {
		t.Errorf("refused with %v", err)
	}
	if took := time.Since(start); took > wireTimeout/2 {
		t.Errorf("reading the refusal took %s: it waits for a connection that is kept", took)
	}

	ours, theirs := net.Pipe()
	defer ours.Close()
	go func() {
		_ = ws.WriteFrame(theirs, ws.NewTextFrame([]byte(`{"type":"disconnect","code":1013,"retryAfterMs":1500}`)))
	}()
	_, err = (&wire{conn: ours, buf: make([]byte, wireBuffer)}).welcome()
	if !errors.As(err, &no) || no.code != 1013 || no.wait != 1500*time.Millisecond {
		t.Errorf("refused with %v", err)
	}
}
