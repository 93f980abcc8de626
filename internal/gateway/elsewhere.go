package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// Elsewhere reaches the leases that other nodes hold. Nodes that do not live hold none: their leases are adopted.
type Elsewhere interface {
	// Holder returns the other node that lists the session, "" when there is none.
	Holder(app api.ApplicationID, id api.SessionID) (node string)
	// Living returns the other node that lives under the incarnation, "" when there is none.
	Living(incarnation int64) (node string)
	// Others returns the other nodes that live.
	Others() []string
	// Missing tells whether there are nodes, as far as is known, of which this one does not know all that they hold.
	Missing() bool
	// Ask has the node's Gateway.Answer answer. A node that does not answer is an *api.Error, unavailable.
	Ask(ctx context.Context, node string, question []byte) ([]byte, error)
}

// nowhere is Elsewhere of a node that is alone.
type nowhere struct{}

func (nowhere) Holder(api.ApplicationID, api.SessionID) string { return "" }
func (nowhere) Living(int64) string                            { return "" }
func (nowhere) Others() []string                               { return nil }
func (nowhere) Missing() bool                                  { return false }
func (nowhere) Ask(context.Context, string, []byte) ([]byte, error) {
	return nil, unavailable("there is no other node")
}

// inquiry is what one node asks another about leases: one of its fields is set.
type inquiry struct {
	Request    *forwarded         `json:"request,omitempty"`
	Report     *forwardedReport   `json:"report,omitempty"`
	Disconnect *forwardedEnd      `json:"disconnect,omitempty"`
	Ended      *forwardedReporter `json:"ended,omitempty"`
}

// forwarded is a request of a lease's client.
type forwarded struct {
	Method        string `json:"method"`
	Path          string `json:"path"`
	Authorization string `json:"authorization"`
	ContentType   string `json:"contentType,omitempty"`
	Address       string `json:"address"`
	Body          []byte `json:"body,omitempty"`
}

type forwardedReporter struct {
	Application api.ApplicationID `json:"application"`
	Reporter    string            `json:"reporter"`
}

type forwardedReport struct {
	forwardedReporter
	Items []api.LeaseItem `json:"items"`
}

type forwardedEnd struct {
	Application api.ApplicationID `json:"application"`
	ServerID    api.ServerID      `json:"serverId"`
	By          tenant.Actor      `json:"by"`
	Reason      string            `json:"reason,omitempty"`
}

// answer answers an inquiry; Held is false when the node does not hold the lease, nor knows its end, and whoever asked may
// adopt it.
type answer struct {
	Held    bool              `json:"held"`
	Status  int               `json:"status,omitempty"` // of a request, with header and body
	Header  http.Header       `json:"header,omitempty"`
	Body    []byte            `json:"body,omitempty"`
	Results []forwardedResult `json:"results,omitempty"` // of a report, one an item
	Ended   []api.LeaseEnded  `json:"ended,omitempty"`
	Did     bool              `json:"did,omitempty"` // of a disconnect: it has ended the session
}

// forwardedResult is an error of Report on its way.
type forwardedResult struct {
	Held       bool          `json:"held"`
	Code       api.Code      `json:"code,omitempty"` // "" = it was done
	Message    string        `json:"message,omitempty"`
	RetryAfter time.Duration `json:"retryAfter,omitempty"`
	Reason     api.EndReason `json:"reason,omitempty"` // of a session that has ended
}

var (
	// errNotHeld answers a request that another node has passed on.
	errNotHeld = errors.New("the lease is not held here")
	// errAnswered says that a request has its answer.
	errAnswered = errors.New("answered")
)

// ask asks a node.
func (g *Gateway) ask(ctx context.Context, node string, q inquiry) (answer, error) {
	var a answer
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	payload, err := json.Marshal(q)
	if err == nil {
		payload, err = g.elsewhere.Ask(ctx, node, payload)
	}
	if err == nil {
		err = json.Unmarshal(payload, &a)
	}
	if err != nil {
		g.log.Debug("a node did not answer about its leases", "node", node, "err", err)
		return a, unavailable("the session is held by a node that does not answer: try again")
	}
	return a, nil
}

// Answer answers what another node asks through Elsewhere.Ask. It passes nothing on.
func (g *Gateway) Answer(ctx context.Context, payload []byte) ([]byte, error) {
	var q inquiry
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, fmt.Errorf("question about leases: %w", err)
	}
	var a answer
	switch {
	case q.Request != nil:
		a = g.answerRequest(ctx, q.Request)
	case q.Report != nil:
		a = g.answerReport(ctx, q.Report)
	case q.Disconnect != nil:
		d := q.Disconnect
		a.Did = g.Disconnect(ctx, d.Application, d.ServerID, d.By, d.Reason)
		a.Held = a.Did || !g.cfg.Records.Flush(ctx)
	case q.Ended != nil:
		a.Ended, _ = g.reporters.take(reporterKey{q.Ended.Application, q.Ended.Reporter}, false)
	}
	return json.Marshal(a)
}

// passedOn marks the context of a request that another node has passed on.
type passedOn struct{}

func (g *Gateway) answerRequest(ctx context.Context, f *forwarded) answer {
	notHeld := false
	ctx = context.WithValue(ctx, passedOn{}, &notHeld)
	r, err := http.NewRequestWithContext(ctx, f.Method, f.Path, bytes.NewReader(f.Body))
	if err != nil {
		return answer{Held: true, Status: http.StatusBadRequest}
	}
	r.RemoteAddr = f.Address
	r.Header.Set("Authorization", f.Authorization)
	if f.ContentType != "" {
		r.Header.Set("Content-Type", f.ContentType)
	}
	w := &kept{answer: answer{Held: true, Status: http.StatusOK, Header: http.Header{}}}
	g.leaseMux.ServeHTTP(w, r)
	if notHeld {
		return answer{}
	}
	return w.answer
}

// kept is a http.ResponseWriter that keeps the answer.
type kept struct{ answer answer }

// Header implements http.ResponseWriter.
func (k *kept) Header() http.Header { return k.answer.Header }

// WriteHeader implements http.ResponseWriter.
func (k *kept) WriteHeader(status int) { k.answer.Status = status }

// Write implements http.ResponseWriter.
func (k *kept) Write(b []byte) (int, error) {
	k.answer.Body = append(k.answer.Body, b...)
	return len(b), nil
}

// passOn has another node answer the request; errNotHeld says that it does not hold the lease.
func (c *leaseCall) passOn(ctx context.Context, node string) error {
	if c.r.Method == http.MethodGet && c.cfg.Records.Status().Away {
		return unavailable("the session cannot move to this node while its database does not answer: try again")
	}
	c.asked = node
	f := &forwarded{Method: c.r.Method, Path: c.r.URL.Path, Authorization: c.r.Header.Get("Authorization"),
		ContentType: c.r.Header.Get("Content-Type"), Address: c.r.RemoteAddr, Body: c.read.Bytes()}
	a, err := c.ask(ctx, node, inquiry{Request: f})
	switch {
	case err != nil:
		return err
	case !a.Held:
		return errNotHeld
	}
	maps.Copy(c.w.Header(), a.Header)
	c.w.WriteHeader(a.Status)
	_, _ = c.w.Write(a.Body) // the client is gone, and there is nobody to tell
	return errAnswered
}

// holder has the node answer that lists the lease, when this one does not know it; nil = this node goes on.
func (c *leaseCall) holder(ctx context.Context, key sessionKey) error {
	if c.passed != nil || c.knows(key) {
		return nil
	}
	node := c.elsewhere.Holder(key.application, key.id)
	if node == "" {
		return nil
	}
	if err := c.passOn(ctx, node); !errors.Is(err, errNotHeld) {
		return err
	}
	return nil
}

// holderOf has the node answer that wrote the record last, when it lives: what it knows of the session may not be in the records yet.
// nil = this node goes on: adopting reads the record as it is then.
func (c *leaseCall) holderOf(ctx context.Context, rec *store.Record) error {
	if rec.EndedAt != 0 {
		return nil
	}
	node := c.elsewhere.Living(rec.Incarnation)
	if node == "" || node == c.asked {
		return nil
	}
	if err := c.passOn(ctx, node); !errors.Is(err, errNotHeld) {
		return err
	}
	return nil
}

// anyHolder has whichever node answer that knows the session, when neither this one nor the database does: it was opened, and may have
// ended, while its node could not write. errNotHeld says that none does; what they knew is in the records then.
func (c *leaseCall) anyHolder(ctx context.Context) error {
	for _, node := range c.elsewhere.Others() {
		if err := c.passOn(ctx, node); !errors.Is(err, errNotHeld) {
			return err
		}
	}
	return errNotHeld
}

func (g *Gateway) knows(key sessionKey) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leases[key] != nil
}

// letGoFor releases the lease of a request that was passed on, so that the other node can adopt it; with the turn. What waits to be
// written of it must be written first.
func (c *leaseCall) letGoFor(ctx context.Context, l *lease) error {
	if c.cfg.Records.Status().Away {
		return unavailable("the session cannot move to the node that you reached: try again")
	}
	l.release(0)
	return c.notHeld(ctx)
}

// notHeld is the answer to a request that was passed on to the wrong node. Its client may go on elsewhere once all that this node
// knows is in the records.
func (c *leaseCall) notHeld(ctx context.Context) error {
	if !c.cfg.Records.Flush(ctx) {
		return unavailable("the records of the session's last node cannot be written: try again")
	}
	*c.passed = true
	return errAnswered
}

// answerReport does what the items say of leases that this node holds.
func (g *Gateway) answerReport(ctx context.Context, f *forwardedReport) answer {
	app, _ := g.cfg.Tenants.Application(f.Application)
	r := &report{Gateway: g, app: app, reporter: f.Reporter, now: time.Now(), found: map[api.SessionID]error{}}
	g.reporters.meet(reporterKey{f.Application, f.Reporter})
	a := answer{Held: true, Results: make([]forwardedResult, len(f.Items))}
	flushed := false
	for i := range f.Items {
		out := &a.Results[i]
		if !g.knows(sessionKey{f.Application, f.Items[i].ID}) {
			if !flushed {
				flushed = g.cfg.Records.Flush(ctx)
			}
			if !flushed {
				*out = resultOf(unavailable("the records of the session's last node cannot be written: try again"))
			}
			continue
		}
		*out = resultOf(r.doKnown(ctx, &f.Items[i]))
	}
	return a
}

func (r *report) doKnown(ctx context.Context, item *api.LeaseItem) error {
	l, fresh, err := r.reserve(ctx, sessionKey{r.app.ID, item.ID})
	if err != nil {
		return err
	}
	defer l.give()
	if fresh { // it was let go of between
		r.dropLease(l)
		return unavailable("the session is moving to another node: try again")
	}
	return r.doHeld(l, item)
}

func resultOf(err error) forwardedResult {
	if errors.Is(err, errNotHeld) {
		return forwardedResult{}
	}
	out := forwardedResult{Held: true}
	if gone, ok := errors.AsType[*goneError](err); ok {
		out.Code, out.Message, out.Reason = api.CodeSessionEnded, gone.text, gone.reason
	} else if err != nil {
		told := toldError(err)
		out.Code, out.Message, out.RetryAfter = told.Code, told.Message, told.RetryAfter
	}
	return out
}

func (f *forwardedResult) err() error {
	switch {
	case f.Reason != "":
		return &goneError{f.Reason, f.Message}
	case f.Code != "":
		return &api.Error{Code: f.Code, Message: f.Message, RetryAfter: f.RetryAfter}
	}
	return nil
}

// maxPassedOn bounds a question about items, in bytes of their client metadata: a message on the bus has at most 1 MB.
const maxPassedOn = 256 << 10

// passOn has other nodes do what the items say of the leases that they hold. Those that are not held there are left to this node.
func (r *report) passOn(ctx context.Context, items []api.LeaseItem, holder func(api.SessionID) string) {
	places := map[string][]int{}
	for i := range items {
		if _, done := r.done[i]; !done {
			if node := holder(items[i].ID); node != "" {
				places[node] = append(places[node], i)
			}
		}
	}
	var work sync.WaitGroup
	var mu sync.Mutex // guards r.done and r.asked
	for node, at := range places {
		r.reporters.heldBy(reporterKey{r.app.ID, r.reporter}, node)
		work.Go(func() {
			for len(at) > 0 {
				n, size := 0, 0
				for ; n < len(at) && size <= maxPassedOn; n++ {
					size += len(items[at[n]].ClientInfo)
				}
				r.passSome(ctx, node, items, at[:n], &mu)
				at = at[n:]
			}
		})
	}
	work.Wait()
}

func (r *report) passSome(ctx context.Context, node string, items []api.LeaseItem, at []int, mu *sync.Mutex) {
	f := &forwardedReport{forwardedReporter: forwardedReporter{r.app.ID, r.reporter}}
	for _, i := range at {
		f.Items = append(f.Items, items[i])
	}
	a, err := r.ask(ctx, node, inquiry{Report: f})
	if err == nil && len(a.Results) != len(at) {
		err = unavailable("the node that holds the session answers something else: try again")
	}
	mu.Lock()
	defer mu.Unlock()
	for n, i := range at {
		switch {
		case err != nil:
			r.done[i] = err
		case a.Results[n].Held:
			r.done[i] = a.Results[n].err()
		default:
			r.asked[items[i].ID] = node
		}
	}
}

// heldBy notes that a node holds leases of the reporter: it is asked for their ends.
func (rs *reporters) heldBy(key reporterKey, node string) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.meetLocked(key)
	if r.nodes == nil {
		r.nodes = map[string]bool{}
	}
	r.nodes[node] = true
}

// collectEnds brings what other nodes have to tell the reporter. One that does not answer is asked again once it is found to hold a
// lease of the reporter.
func (g *Gateway) collectEnds(ctx context.Context, key reporterKey) {
	var work sync.WaitGroup
	for _, node := range g.reporters.holders(key) {
		work.Go(func() {
			a, err := g.ask(ctx, node, inquiry{Ended: &forwardedReporter{key.application, key.name}})
			g.reporters.bring(key, node, a.Ended, err == nil)
		})
	}
	work.Wait()
}

func (rs *reporters) holders(key reporterKey) []string {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return slices.Collect(maps.Keys(rs.meetLocked(key).nodes))
}

func (rs *reporters) bring(key reporterKey, node string, ends []api.LeaseEnded, answered bool) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	r := rs.meetLocked(key)
	if !answered {
		delete(r.nodes, node)
	}
	for _, e := range ends {
		r.addLocked(e)
	}
}
