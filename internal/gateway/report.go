package gateway

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// credentialPrefix begins the denials of what reported clients authenticated with, beside "jti:" and "sha256:" of tokens.
const credentialPrefix = "credential:"

// credentialDenial is how long such a credential is refused: nobody says when it expires, and no token that Rollcall issues lives
// longer.
const credentialDenial = tenant.MaxTokenSeconds * time.Second

// denials returns what must be refused of what a session has presented.
func denials(tokens []store.Denial, now api.Millis) []store.Denial {
	left := unexpired(tokens, now)
	for i := range left {
		if strings.HasPrefix(left[i].TokenID, credentialPrefix) {
			left[i].ExpiresAt = now.Add(credentialDenial)
		}
	}
	return left
}

// forever is the expiry of what does not say when it expires.
const forever = api.Millis(1 << 52)

// reportBy notes who reports the session; with the turn.
func (l *lease) reportBy(reporter string) {
	l.reporter = reporter
	l.mu.Lock()
	l.tells = reporter
	l.mu.Unlock()
}

// report is one call of Report.
type report struct {
	*Gateway
	app      tenant.Application // as it was when the call came: revocation judges what is opened by its epoch
	reporter string
	now      time.Time

	done    map[int]error            // of items that other nodes have done, or refused
	asked   map[api.SessionID]string // the node that does not hold it, by its own word
	found   map[api.SessionID]error  // why leases that were asked for are not held, when that is known
	opened  []*lease                 // whose records are to be committed
	tickets []*store.Ticket
	places  []int // of opened, among the items
}

// Report does what the items say, in their order, for a reporter of the application's sessions, and returns an error for each; nil
// for what was done. What is opened is in the records when it returns, as for a welcome. An item that was refused has changed
// nothing. The errors are *api.Error, or say with EndOf that a session has ended.
func (g *Gateway) Report(ctx context.Context, app tenant.Application, reporter string, items []api.LeaseItem) []error {
	ctx = context.WithoutCancel(ctx)
	errs := make([]error, len(items))
	g.reporters.meet(reporterKey{app.ID, reporter})
	if len(items) == 0 {
		return errs
	}
	if !g.beginHello() {
		for i := range errs {
			errs[i] = unavailable("too much at once: try again")
		}
		return errs
	}
	defer g.endHello()
	r := &report{Gateway: g, app: app, reporter: reporter, now: time.Now(), found: map[api.SessionID]error{},
		done: map[int]error{}, asked: map[api.SessionID]string{}}
	r.passOn(ctx, items, r.holder)
	r.adoptMissing(ctx, items)
	for i := range items {
		if err, done := r.done[i]; done {
			errs[i] = err
			continue
		}
		errs[i] = r.do(ctx, i, &items[i])
	}
	for i, err := range g.cfg.Records.CommitAll(ctx, r.tickets) {
		if err != nil {
			g.log.Error("a record was not written", "session", r.opened[i].key().id, "err", err)
			c := tryAgain("the session cannot be recorded")
			c.reason = api.EndServerStopped
			r.opened[i].session.end(c)
			errs[r.places[i]] = unavailable("the session cannot be recorded now: try again")
		}
	}
	return errs
}

// EndOf returns how a session ended that an error of Report says has ended.
func (*Gateway) EndOf(err error) (api.EndReason, bool) { return endOf(err) }

func endOf(err error) (api.EndReason, bool) {
	gone, ok := errors.AsType[*goneError](err)
	if !ok {
		return "", false
	}
	return gone.reason, true
}

// adoptMissing takes up those of the items' leases that nobody holds, with one read and one write for all. It waits for nobody, so
// that reports of the same sessions do not wait for one another.
func (r *report) adoptMissing(ctx context.Context, items []api.LeaseItem) {
	missing := map[api.SessionID]*lease{}
	defer func() {
		for _, l := range missing {
			if !l.session.open {
				r.dropLease(l)
			}
			l.give()
		}
	}()
	ids := make([]api.SessionID, 0, len(items))
	for i := range items {
		key := sessionKey{r.app.ID, items[i].ID}
		r.mu.Lock()
		known := r.leases[key] != nil
		r.mu.Unlock()
		if _, done := r.done[i]; done || known || missing[key.id] != nil {
			continue
		}
		if l, fresh, err := r.reserveNew(key); err == nil && fresh {
			missing[key.id] = l
			ids = append(ids, key.id)
		}
	}
	if len(ids) == 0 {
		return
	}
	rctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	records, err := r.cfg.Records.Get(rctx, r.app.ID, ids)
	var open []store.Record
	for _, id := range ids {
		rec, ok := records[id]
		switch {
		case !ok && err != nil:
			r.found[id] = unavailable("the database that knows the session does not answer: try again")
		case !ok:
			r.found[id] = errNoSession()
		case rec.Lease == nil || rec.Lease.Reporter == "":
			r.found[id] = errTaken()
		case rec.EndedAt != 0:
			r.found[id] = goneOf(&rec)
		default:
			open = append(open, rec)
			r.found[id] = unavailable("the session is held by another node: try again")
		}
	}
	if err != nil {
		r.log.Warn("reported sessions could not be read", "err", err)
	}
	r.findElsewhere(ctx, items)
	if open = r.passOnOpen(ctx, items, open); len(open) == 0 {
		return
	}
	adopted, err := r.adoptAll(ctx, open)
	if err != nil {
		for i := range open {
			r.found[open[i].ID] = err
		}
	}
	for i := range adopted {
		if r.found[adopted[i].ID] = missing[adopted[i].ID].revive(adopted[i]); r.found[adopted[i].ID] == nil {
			delete(r.found, adopted[i].ID)
		}
	}
}

// findElsewhere has whichever node knows them do what the items say of sessions that neither this one nor the database knows; see
// anyHolder. Those that are to be opened are not asked for.
func (r *report) findElsewhere(ctx context.Context, items []api.LeaseItem) {
	unknown := map[api.SessionID]bool{}
	for i := range items {
		id := items[i].ID
		if _, done := r.done[i]; !done && items[i].Op != api.LeaseOpen && api.CodeOf(r.found[id]) == api.CodeSessionNotFound {
			unknown[id] = true
		}
	}
	for i := range items {
		if items[i].Op == api.LeaseOpen {
			delete(unknown, items[i].ID)
		}
	}
	if len(unknown) == 0 {
		return
	}
	for _, node := range r.elsewhere.Others() {
		r.passOn(ctx, items, func(id api.SessionID) string {
			if unknown[id] {
				return node
			}
			return ""
		})
	}
	for id := range unknown {
		r.found[id] = r.notFound()
	}
}

// holder returns the node that lists a session which this one does not know.
func (r *report) holder(id api.SessionID) string {
	if r.knows(sessionKey{r.app.ID, id}) {
		return ""
	}
	return r.elsewhere.Holder(r.app.ID, id)
}

// passOnOpen has the nodes that wrote the records last do what the items say, when they live, and returns what is to be adopted.
func (r *report) passOnOpen(ctx context.Context, items []api.LeaseItem, open []store.Record) []store.Record {
	nodes := map[api.SessionID]string{}
	for i := range open {
		if node := r.elsewhere.Living(open[i].Incarnation); node != "" && r.asked[open[i].ID] != node {
			nodes[open[i].ID] = node
		}
	}
	r.passOn(ctx, items, func(id api.SessionID) string { return nodes[id] })
	return slices.DeleteFunc(open, func(rec store.Record) bool {
		return nodes[rec.ID] != "" && r.asked[rec.ID] != nodes[rec.ID]
	})
}

func errTaken() *api.Error {
	return api.Errorf(api.CodeConflict, "the id is that of a session that is not reported by a server")
}

// do does what one item says.
func (r *report) do(ctx context.Context, place int, item *api.LeaseItem) error {
	key := sessionKey{r.app.ID, item.ID}
	if item.Op == api.LeaseOpen && !r.unknown(item.ID) {
		return r.found[item.ID]
	}
	if item.Op != api.LeaseOpen && r.found[item.ID] != nil {
		if item.Op == api.LeaseEnd && isGone(r.found[item.ID]) {
			return nil
		}
		return r.found[item.ID]
	}
	l, fresh, err := r.reserve(ctx, key)
	if err != nil {
		return err
	}
	defer l.give()
	switch {
	case fresh && item.Op == api.LeaseOpen:
		if err := r.open(l, place, item); err != nil {
			r.dropLease(l)
			return err
		}
		delete(r.found, item.ID)
		return nil
	case fresh: // it was let go of between
		r.dropLease(l)
		return unavailable("the session is moving to another node: try again")
	}
	return r.doHeld(l, item)
}

// doHeld does what an item says of a lease that is held here, with its turn.
func (r *report) doHeld(l *lease, item *api.LeaseItem) error {
	if l.reporter == "" {
		return errTaken()
	}
	if err := l.endedOr(nil); err != nil {
		if item.Op == api.LeaseEnd && isGone(err) {
			return nil
		}
		return err
	}
	if item.Op == api.LeaseEnd {
		l.session.end(cause{reason: api.EndClientClosed})
		return nil
	}
	return r.beat(l, item)
}

func isGone(err error) bool {
	_, gone := endOf(err)
	return gone
}

// unknown tells whether, as far as can be known now, an open may open a session of that id: with the database away a fresh id is
// believed to be one (G9).
func (r *report) unknown(id api.SessionID) bool {
	code := api.CodeOf(r.found[id])
	return code == "" || code == api.CodeSessionNotFound || code == api.CodeUnavailable && r.cfg.Records.Status().Away
}

// beat is a sign of life, with the turn.
func (r *report) beat(l *lease, item *api.LeaseItem) error {
	s := l.session
	if l.reporter != r.reporter {
		l.reportBy(r.reporter)
	}
	longer := item.LeaseSeconds != 0 && item.LeaseSeconds != l.seconds
	if longer {
		l.seconds = item.LeaseSeconds
	}
	if s.presents(item.CredentialID) || longer {
		s.mu.Lock()
		s.noteLeaseLocked()
		record := s.record
		s.mu.Unlock()
		r.cfg.Records.Keep(record)
	}
	if item.LastActiveAt != nil {
		s.touch(min(api.Millis(*item.LastActiveAt), r.Gateway.now()))
	}
	l.renew(r.now)
	l.missed.Store(true)
	return l.endedOr(nil)
}

// presents notes a credential that the client of a reported session has come to authenticate with, and tells whether it is another one.
// The oldest of too many is forgotten.
func (s *session) presents(credential string) bool {
	if credential == "" {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := store.Denial{Application: s.record.Application, TokenID: credentialPrefix + credential, ExpiresAt: forever}
	if slices.Contains(s.tokens, d) {
		return false
	}
	tokens := s.tokens[max(0, len(s.tokens)-maxTokens+1):]
	s.tokens = append(slices.Clone(tokens), d)
	return true
}

// open opens the session of a reserved lease, with the turn: the record is staged and the row inserted, as for a hello.
func (r *report) open(l *lease, place int, item *api.LeaseItem) error {
	s := l.session
	credential := credentialPrefix + item.CredentialID
	if item.CredentialID != "" && r.cfg.Tenants.Denied(r.app.ID, credential) {
		return api.Errorf(api.CodeTokenRevoked, "an operator ended a session with this credentialId: the client must authenticate again")
	}
	addr, err := netip.ParseAddr(item.IPAddress)
	if err != nil {
		return api.Errorf(api.CodeValidation, "ipAddress must be an IP address")
	}
	l.reportBy(r.reporter)
	l.seconds, l.epoch = item.LeaseSeconds, r.app.Epoch
	if l.seconds == 0 {
		l.seconds = api.DefaultLeaseSeconds
	}
	now := r.Gateway.now()
	active := now
	if item.LastActiveAt != nil {
		active = min(now, api.Millis(*item.LastActiveAt))
	}
	s.mu.Lock()
	s.record = store.Record{
		ID: item.ID, ServerID: api.NewServerID(r.cfg.Node, item.ID), Organization: r.app.Organization, Application: r.app.ID,
		Incarnation: r.cfg.Records.Incarnation(), CreatedAt: now, IP: addr.Unmap().WithZone("").String(), ClientID: item.ClientID, Login: item.Login,
		License: item.License, Authorized: item.Authorized, Hostname: item.Hostname, UserAgent: item.UserAgent,
		ClientInfo: item.ClientInfo, LastActiveAt: active,
	}
	if s.record.ClientID == "" {
		s.record.ClientID = item.ID.String()
	}
	s.activeAt = active
	// The server stamps it: what comes through the door after a revocation that this call does not know of is refused.
	s.credential = registry.Credential{Kind: registry.CredentialRollcall, Epoch: r.app.Epoch}
	if item.CredentialID != "" {
		s.tokens = []store.Denial{{Application: r.app.ID, TokenID: credential, ExpiresAt: forever}}
	}
	s.noteLeaseLocked()
	record := s.record
	s.mu.Unlock()

	ticket, err := r.cfg.Records.Stage(record)
	if err != nil {
		return unavailable("records cannot be written fast enough: try again")
	}
	if err := s.insert(r.app.MaxAuthorized()); err != nil {
		ticket.Discard()
		return err
	}
	r.metrics.open(item.Authorized)
	s.open = true
	l.renew(r.now)
	r.opened, r.tickets, r.places = append(r.opened, l), append(r.tickets, ticket), append(r.places, place)
	return r.keep(l)
}

// EndUnheld ends, for an operator, a lease that no node holds, and returns whether it was this call that ended it.
func (g *Gateway) EndUnheld(ctx context.Context, app api.ApplicationID, id api.SessionID, by tenant.Actor, reason string) (bool, error) {
	rec, err := g.readRecord(ctx, sessionKey{app, id})
	if err != nil || rec.EndedAt != 0 || rec.Incarnation == g.cfg.Records.Incarnation() {
		return false, err
	}
	if node := g.elsewhere.Living(rec.Incarnation); node != "" { // its list is not here yet, or the record not there
		a, err := g.ask(ctx, node, inquiry{Disconnect: &forwardedEnd{app, rec.ServerID, by, reason}})
		if err != nil || a.Held {
			return a.Did, err
		}
	}
	adopted, err := g.adoptAll(ctx, []store.Record{*rec})
	if err != nil || len(adopted) == 0 {
		return false, err
	}
	_ = g.endRecord(adopted[0], cause{reason: api.EndDisconnected, by: string(by), note: reason, deny: true}, g.now())
	return true, nil
}
