package dashboard_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/heapprofiler"
	"github.com/chromedp/cdproto/memory"
	"github.com/chromedp/cdproto/performance"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/tracing"
	"github.com/chromedp/chromedp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// A batch of so many changes every so often is 1,000 changes a second.
const (
	batchEvery = 100 * time.Millisecond
	batchSize  = 100
)

// A task of the page's main thread is long when it takes more of a processor than longest, and more than a few times what any page must spend
// on as many new rows: on a machine with more to do than it can, the clock says nothing, and even a processor's time is a multiple of what
// it is on a quiet one. Both are measured in one run.
const (
	longest = 50 * time.Millisecond
	atMost  = 10
)

// floor is what a full page of plain rows costs here and now, made, styled and laid out.
func (p *tab) floor() time.Duration {
	p.t.Helper()
	const times = 10
	const build = `new Promise(done => setTimeout(() => {
		const host = document.body.appendChild(document.createElement("div"));
		for (let i = 0; i < 50; i++) {
			const row = host.appendChild(document.createElement("div"));
			row.className = "tr";
			for (let j = 0; j < 7; j++) row.appendChild(document.createElement("div")).appendChild(document.createElement("bdi")).textContent = "cell " + i * j;
		}
		host.offsetHeight;
		host.remove();
		done(true);
	}))`
	before := p.busy()
	for range times {
		if _, err := chromedp.Run(p.ctx, chromedp.Evaluate[bool](build, chromedp.EvalAwaitPromise)); err != nil {
			p.t.Fatal(err)
		}
	}
	return (p.busy() - before) / times
}

// churn opens and ends as many sessions, at the top of the first page, until the context ends. It says how many changes there were.
func churn(ctx context.Context, t *testing.T, m *client.Manage) int {
	var open []api.SessionID
	var changes, n int
	tick := time.NewTicker(batchEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		var items []api.LeaseItem
		for range batchSize / 2 {
			item := guest(n)
			item.Authorized = false // the plan has a limit
			n++
			items = append(items, item)
			open = append(open, item.ID)
		}
		for len(open) > batchSize { // a session lives for 200 ms
			items = append(items, api.LeaseItem{Op: api.LeaseEnd, ID: open[0]})
			open = open[1:]
		}
		if err := report(context.WithoutCancel(ctx), m, items); err != nil {
			t.Error(err)
			return changes
		}
		changes += len(items)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	return changes
}

// counts are what a page must not have more and more of.
type counts struct {
	heap             float64
	nodes, listeners int64
}

func (c counts) grewFrom(was counts) bool {
	return c.heap > was.heap+1<<20 || c.nodes > was.nodes+was.nodes/10+300 || c.listeners > was.listeners+was.listeners/10+50
}

// counted is after everything that can be is collected.
func (p *tab) counted() (c counts) {
	p.t.Helper()
	p.do(chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		for range 3 {
			if _, err := cdp.Call(ctx, t, heapprofiler.CollectGarbage, cdp.Empty{}); err != nil {
				return err
			}
		}
		heap, err := cdp.Call(ctx, t, runtime.GetHeapUsage, cdp.Empty{})
		if err != nil {
			return err
		}
		dom, err := cdp.Call(ctx, t, memory.GetDOMCounters, cdp.Empty{})
		c = counts{heap.UsedSize, dom.Nodes, dom.JsEventListeners}
		return err
	}))
	return c
}

// traced records the tasks of the page's main thread while something happens.
func (p *tab) traced(run func()) []time.Duration {
	p.t.Helper()
	var mu sync.Mutex
	var events []json.RawMessage
	var lost bool
	done := make(chan struct{})
	var once sync.Once
	ctx, cancel := context.WithCancel(p.ctx)
	defer cancel()
	err := chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *tracing.EventDataCollected:
			mu.Lock()
			defer mu.Unlock()
			for _, one := range e.Value {
				events = append(events, json.RawMessage(one))
			}
		case *tracing.EventTracingComplete:
			lost = e.DataLossOccurred
			once.Do(func() { close(done) })
		}
	})
	if err != nil {
		p.t.Fatal(err)
	}
	config := &tracing.TraceConfig{IncludedCategories: []string{"toplevel", "__metadata"}, ExcludedCategories: []string{"*"}}
	if _, err := chromedp.Call(p.ctx, tracing.Start, tracing.StartParams{TraceConfig: config}); err != nil {
		p.t.Fatal(err)
	}
	run()
	if _, err := chromedp.Call(p.ctx, tracing.End, cdp.Empty{}); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(3 * patience):
		p.t.Fatal("the trace did not end")
	}
	if lost {
		p.t.Error("a part of the trace was lost")
	}
	mu.Lock()
	defer mu.Unlock()
	return tasks(events)
}

// tasks are those of a renderer's main thread, by their time on a processor.
func tasks(events []json.RawMessage) (took []time.Duration) {
	type event struct {
		Name, Ph string
		PID, TID int
		Dur      int64  // microseconds
		TDur     *int64 // the same on a processor
		Args     struct{ Name string }
	}
	type thread struct{ pid, tid int }
	main := map[thread]bool{}
	var all []event
	for _, raw := range events {
		var e event
		if json.Unmarshal(raw, &e) != nil {
			continue
		}
		if e.Ph == "M" && e.Name == "thread_name" && e.Args.Name == "CrRendererMain" {
			main[thread{e.PID, e.TID}] = true
		}
		all = append(all, e)
	}
	for _, e := range all {
		if e.Ph != "X" || !strings.HasSuffix(e.Name, "RunTask") || !main[thread{e.PID, e.TID}] {
			continue
		}
		cpu := e.Dur // not every event has both; nothing takes the processor longer than the clock
		if e.TDur != nil {
			cpu = *e.TDur
		}
		took = append(took, time.Duration(cpu)*time.Microsecond)
	}
	return took
}

// busy is the time that the page's main thread has spent on a processor.
func (p *tab) busy() (sum time.Duration) {
	p.t.Helper()
	found, err := chromedp.Call(p.ctx, performance.GetMetrics, cdp.Empty{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range found.Metrics {
		if m.Name == "TaskDuration" {
			sum = time.Duration(m.Value * float64(time.Second))
		}
	}
	return sum
}

// TestChurn: 1,000 changes a second at the top of the page that somebody looks at, for five seconds; ROLLCALL_CHURN=1m for longer. No task
// of the page is long, nothing grows, and in the end the page is what the API says. What a busy machine does to a page, or what a page makes
// once and keeps, such as compiled code, passes; what the page does comes again each time. It runs beside no other test of the package.
func TestChurn(t *testing.T) {
	length, times := 5*time.Second, 3
	if text := os.Getenv("ROLLCALL_CHURN"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
		times = 1
	}
	s, m := stage(t)
	p := open(t, s.URL)
	p.signIn(page+"?pageSize=50", fullKey)
	p.until(`document.querySelectorAll(".tbody .tr").length === 50 && document.querySelector(".plot-space canvas")`)
	if _, err := chromedp.Call(p.ctx, performance.Enable, performance.EnableParams{TimeDomain: performance.EnableTimeDomainThreadTicks}); err != nil {
		t.Fatal(err)
	}
	p.run(`(() => {
		globalThis.seen = 0; // rows that come, in elements of their own or in those of rows that left
		const observer = new MutationObserver(list => { for (const one of list) seen += one.type === "attributes" ? 1 : one.addedNodes.length; });
		observer.observe(document.querySelector(".tbody"), {childList: true});
		observer.observe(document.querySelector(".table"), {subtree: true, attributeFilter: ["data-id"]});
	})()`)
	p.churned(m, length/2) // what is made once is made
	for round := 1; ; round++ {
		wrong := p.churned(m, length)
		if len(wrong) == 0 {
			return
		}
		if round == times {
			t.Fatal(strings.Join(wrong, "\n"))
		}
		t.Log(strings.Join(wrong, "\n"))
	}
}

// churned returns what was not as it should be.
func (p *tab) churned(m *client.Manage, length time.Duration) (wrong []string) {
	p.t.Helper()
	p.run(`seen = 0`)
	floor, before, cpu, changes := p.floor(), p.counted(), p.busy(), 0
	took := p.traced(func() {
		ctx, cancel := context.WithTimeout(p.t.Context(), length)
		defer cancel()
		changes = churn(ctx, p.t, m)
	})
	cpu = p.busy() - cpu
	rows := get[float64](p, "seen")
	p.isTheList(m)
	after := p.counted()
	floor = max(floor, p.floor())
	slices.Sort(took)
	if len(took) < 5 {
		p.t.Fatal("no tasks were traced")
	}
	p.t.Logf("%d changes in %v, %.0f rows came; %d tasks, longest %v (plain rows: %v), 99%% under %v, %.1f%% of a processor; before %+v, after %+v", changes, length, rows,
		len(took), took[len(took)-5:], floor, took[len(took)*99/100], 100*cpu.Seconds()/length.Seconds(), before, after)
	if rows < 10*length.Seconds() {
		p.t.Errorf("only %.0f rows came in %v: nothing was tried", rows, length)
	}
	// One may be the collector's, or the compiler's.
	if long := took[len(took)-2]; long > max(longest, atMost*floor) {
		wrong = append(wrong, fmt.Sprintf("a task of the page took %v of a processor, more than %v and %d times the %v of plain rows", long, longest, atMost, floor))
	}
	if after.grewFrom(before) {
		wrong = append(wrong, fmt.Sprintf("the page grew: %+v became %+v", before, after))
	}
	return wrong
}

// isTheList waits for the page to be what the API answers, now that nothing changes any more.
func (p *tab) isTheList(m *client.Manage) {
	p.t.Helper()
	list, err := m.Live(p.t.Context(), client.Query{Application: testkit.Number, PageSize: 50})
	if err != nil {
		p.t.Fatal(err)
	}
	var want []string
	for _, row := range list.Items {
		want = append(want, *row.Login)
	}
	p.shows(want...)
	p.until(`document.getAnimations().every(one => one.playState !== "running" || one.effect.getComputedTiming().iterations === Infinity) && !document.querySelector(".leaving")`)
}
