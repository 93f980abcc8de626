package registry

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollcallhq/rollcall/api"
)

// model is the registry as one would write it without a thought for cost: a slice of rows, sorted, filtered and cut at every
// question.
type model struct {
	applications map[api.ApplicationID]*modelApplication
}

type modelApplication struct {
	organization   api.OrganizationID
	gate           Gate
	lastConnection api.Millis
	rows           []modelRow
}

type modelRow struct {
	Row
	epoch uint64
}

func (m *model) authorized(org api.OrganizationID) (n int) {
	for _, a := range m.applications {
		for _, row := range a.rows {
			if a.organization == org && row.Authorized {
				n++
			}
		}
	}
	return n
}

func (m *model) admit(a *modelApplication, row Row, opensAuthorized bool, maxAuthorized int) error {
	switch c := row.Credential; {
	case a.gate.State == api.ApplicationArchived:
		return ErrArchived
	case a.gate.State == api.ApplicationPaused:
		return ErrPaused
	case c.Kind == CredentialRollcall && c.Epoch < a.gate.Epoch,
		c.Kind == CredentialForeign && a.gate.RevokedAt > 0 && c.IssuedAt.Time().Unix() <= a.gate.RevokedAt.Time().Unix():
		return ErrRevoked
	case opensAuthorized && maxAuthorized != Unlimited && m.authorized(a.organization) >= maxAuthorized:
		return ErrQuota
	}
	return nil
}

func (m *model) insert(row Row, maxAuthorized int) error {
	a := m.applications[row.Application]
	if a == nil || a.organization != row.Organization {
		return ErrGone
	}
	err := m.admit(a, row, row.Authorized, maxAuthorized)
	exists := slices.ContainsFunc(a.rows, func(r modelRow) bool { return r.Session == row.Session })
	switch {
	case exists && (err == nil || errors.Is(err, ErrQuota)):
		return ErrExists
	case err != nil:
		return err
	}
	epoch := a.gate.Epoch
	if row.Credential.Kind == CredentialRollcall {
		epoch = max(epoch, row.Credential.Epoch)
	}
	if row.LastActiveAt == 0 {
		row.LastActiveAt = row.CreatedAt
	}
	a.rows = append(a.rows, modelRow{Row: row, epoch: epoch})
	a.lastConnection = max(a.lastConnection, row.CreatedAt)
	return nil
}

func (m *model) find(app api.ApplicationID, id api.ServerID) (*modelApplication, int) {
	a := m.applications[app]
	if a == nil {
		return nil, -1
	}
	return a, slices.IndexFunc(a.rows, func(r modelRow) bool { return r.ServerID == id })
}

func (m *model) update(row Row, maxAuthorized int) error {
	a, i := m.find(row.Application, row.ServerID)
	if i < 0 {
		return ErrGone
	}
	old := a.rows[i]
	if err := m.admit(a, row, row.Authorized && !old.Authorized, maxAuthorized); err != nil {
		return err
	}
	row.Organization, row.Session, row.CreatedAt = old.Organization, old.Session, old.CreatedAt
	row.LastActiveAt = max(row.LastActiveAt, old.LastActiveAt)
	a.rows[i].Row = row
	return nil
}

func (m *model) remove(app api.ApplicationID, id api.ServerID) (Row, bool) {
	a, i := m.find(app, id)
	if i < 0 {
		return Row{}, false
	}
	row := a.rows[i].Row
	a.rows = slices.Delete(a.rows, i, i+1)
	return row, true
}

func (m *model) setApplication(org api.OrganizationID, app api.ApplicationID, gate Gate, lastConnection api.Millis) []Row {
	a := m.applications[app]
	if a == nil {
		a = &modelApplication{organization: org}
		m.applications[app] = a
	}
	a.gate = Gate{gate.State, max(a.gate.Epoch, gate.Epoch), max(a.gate.RevokedAt, gate.RevokedAt)}
	a.lastConnection = max(a.lastConnection, lastConnection)
	var leave []Row
	for _, row := range slices.Backward(a.sorted()) {
		if gate.State != api.ApplicationActive || row.epoch < a.gate.Epoch {
			leave = append(leave, row.Row)
		}
	}
	return leave
}

func (a *modelApplication) sorted() []modelRow {
	if a == nil {
		return nil
	}
	rows := slices.Clone(a.rows)
	slices.SortFunc(rows, func(x, y modelRow) int {
		if x.CreatedAt != y.CreatedAt {
			return int(y.CreatedAt - x.CreatedAt)
		}
		return strings.Compare(string(y.ServerID), string(x.ServerID))
	})
	return rows
}

// containsFold compares rune by rune, with the standard library's idea of simple folding.
func containsFold(s, needle string) bool {
	runes, n := []rune(s), utf8.RuneCountInString(needle)
	for i := 0; i+n <= len(runes); i++ {
		if strings.EqualFold(string(runes[i:i+n]), string([]rune(needle))) {
			return true
		}
	}
	return false
}

func (m *model) page(q Query) api.View {
	a := m.applications[q.Application]
	view := api.View{Items: []api.Row{}, Page: q.Page, PageSize: q.PageSize}
	view.AuthorizedSessionCount = m.authorized(q.Organization)
	if a == nil || a.organization != q.Organization {
		return view
	}
	view.Total, view.LastConnectionTime = len(a.rows), a.lastConnection
	for _, row := range a.sorted() {
		if q.Search != "" && (q.Categories&License == 0 || !containsFold(row.License, q.Search)) &&
			(q.Categories&IP == 0 || !containsFold(row.IP, q.Search)) &&
			(q.Categories&ClientID == 0 || !containsFold(row.ClientID, q.Search)) {
			continue
		}
		if page := view.FilteredTotal / q.PageSize; page == q.Page-1 {
			view.Items = append(view.Items, modelShow(row.Row))
		}
		view.FilteredTotal++
	}
	return view
}

func modelShow(row Row) api.Row {
	optional := func(s string) *string {
		if s == "" {
			return nil
		}
		return &s
	}
	return api.Row{ServerID: row.ServerID, IPAddress: row.IP, CreatedAt: row.CreatedAt, ClientID: row.ClientID,
		Login: optional(row.Login), License: optional(row.License)}
}

func (m *model) sessions(app api.ApplicationID, after *api.Position, limit int, which Range, now api.Millis) []Row {
	rows := []Row{}
	for _, row := range m.applications[app].sorted() {
		if after != nil && (api.Position{CreatedAt: row.CreatedAt, ServerID: row.ServerID}).Compare(*after) <= 0 {
			continue
		}
		expired := row.TokenExpiresAt != 0 && row.TokenExpiresAt <= now
		if len(rows) < limit && (which == RangeAll || expired == (which == RangeExpired)) {
			rows = append(rows, row.Row)
		}
	}
	return rows
}

func (m *model) counts(app api.ApplicationID, now api.Millis, idleAfter time.Duration) (live, active, idle int) {
	for _, row := range m.applications[app].sorted() {
		live++
		switch row.Derived(now, idleAfter) {
		case api.DerivedActive:
			active++
		case api.DerivedIdle:
			idle++
		default:
		}
	}
	return live, active, idle
}

// client is a watcher as the documents describe one: it knows the view and what the deltas said.
type client struct {
	query Query
	watch *Watch
	view  api.View
}

// apply follows a delta as a client of a stream would, and complains about steps that make no sense.
func (c *client) apply(d *Delta) error {
	if len(d.Removed) > c.query.PageSize || len(d.Added)+len(d.Updated) > c.query.PageSize {
		return fmt.Errorf("delta has %d removed, %d added, %d updated for pages of %d",
			len(d.Removed), len(d.Added), len(d.Updated), c.query.PageSize)
	}
	items := slices.Clone(c.view.Items)
	at := func(id api.ServerID) int {
		return slices.IndexFunc(items, func(r api.Row) bool { return r.ServerID == id })
	}
	for _, id := range d.Removed {
		i := at(id)
		if i < 0 {
			return fmt.Errorf("removed %s, which is not on the page", id)
		}
		items = slices.Delete(items, i, i+1)
	}
	for i, row := range d.Added {
		if at(row.ServerID) >= 0 {
			return fmt.Errorf("added %s, which is on the page", row.ServerID)
		}
		if i > 0 && d.Added[i-1].Position().Compare(row.Position()) >= 0 {
			return fmt.Errorf("added %s is out of order", row.ServerID)
		}
		items = append(items, row)
	}
	for _, row := range d.Updated {
		i := at(row.ServerID)
		if i < 0 {
			return fmt.Errorf("updated %s, which is not on the page", row.ServerID)
		}
		if cmp.Equal(items[i], row) {
			return fmt.Errorf("updated %s, which shows the same", row.ServerID)
		}
		items[i] = row
	}
	slices.SortFunc(items, func(a, b api.Row) int { return a.Position().Compare(b.Position()) })
	c.view.Items = items
	if d.LastConnection != nil {
		if *d.LastConnection <= c.view.LastConnectionTime {
			return fmt.Errorf("last connection went from %d to %d", c.view.LastConnectionTime, *d.LastConnection)
		}
		c.view.LastConnectionTime = *d.LastConnection
	}
	if d.Counts != nil {
		if !c.query.Totals || *d.Counts == c.view.Counts {
			return fmt.Errorf("counts %+v come after %+v, asked for: %v", *d.Counts, c.view.Counts, c.query.Totals)
		}
		c.view.Counts = *d.Counts
	}
	if d.rows() == 0 && d.LastConnection == nil && d.Counts == nil {
		return fmt.Errorf("delta is empty")
	}
	return nil
}

// check compares what the client believes with a fresh view. Counts are known to those alone who asked for them.
func (c *client) check(fresh api.View) error {
	if !c.query.Totals {
		fresh.Counts = c.view.Counts
	}
	if diff := cmp.Diff(fresh, c.view); diff != "" {
		return fmt.Errorf("query %+v: page and deltas (+) differ from a fresh page (-):\n%s", c.query, diff)
	}
	return nil
}

// machine drives a registry and the model through the same steps. Every decision comes from choose, which returns a number from 0
// to n-1, so that random draws, fuzzed bytes and seeds drive it alike.
type machine struct {
	t        fataler
	choose   func(n int) int
	registry *Registry
	model    *model
	clients  []*client
	building []*building
	needles  []Query
	sessions []api.SessionID
	now      api.Millis
}

// building is a live query whose first search is yet to see the rows (nil), or under way.
type building struct {
	query *liveQuery
	look  *look
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

func newMachine(t fataler, choose func(int) int) *machine {
	m := &machine{t: t, choose: choose, registry: New(Config{}), now: 1_000_000,
		model: &model{applications: map[api.ApplicationID]*modelApplication{}}}
	m.registry.tuning = tuning{margin: []int{0, 1, 3, 1024}[choose(4)], blockBits: []uint{1, 2, 5, 16}[choose(4)],
		indexFrom: []int{0, 3, 10, 1000}[choose(4)], few: []int{-1, 2, 5, 1000}[choose(4)], long: 8 * choose(3),
		waiting: []int{0, 1, 4}[choose(3)], intake: []int{0, 1, 30}[choose(3)]}
	for i := range pick(m, 6, 12, 40) {
		m.sessions = append(m.sessions, testSession(i))
	}
	for app := range 2 {
		m.setApplication(testOrganization(0), testApplication(app), Gate{State: api.ApplicationActive})
	}
	return m
}

func testOrganization(i int) (id api.OrganizationID) { id[15] = byte(i + 1); return id }
func testApplication(i int) (id api.ApplicationID)   { id[15] = byte(i + 1); return id }
func testSession(i int) (id api.SessionID) {
	id[12], id[13], id[14], id[15] = byte(i>>24), byte(i>>16), byte(i>>8), byte(i)
	return id
}

func pick[T any](m *machine, of ...T) T { return of[m.choose(len(of))] }

// query is about a needle that was asked for before, half of the time, so that much is shared.
func (m *machine) query() Query {
	q := m.newQuery()
	if len(m.needles) == 0 || m.choose(2) == 0 {
		m.needles = append(m.needles, q)
		return q
	}
	as := pick(m, m.needles...)
	q.Organization, q.Application, q.Search, q.Categories = as.Organization, as.Application, as.Search, as.Categories
	return q
}

// newQuery draws from three applications in two organizations, of which one is never set and one is of another organization.
func (m *machine) newQuery() Query {
	return Query{
		Organization: testOrganization(pick(m, 0, 0, 0, 0, 1)),
		Application:  testApplication(pick(m, 0, 0, 0, 1, 2)),
		Search: pick(m, "", "", "s", "S", "ſ", "k", "K", "K", "ß", "ẞ", "ss", "i", "İ", "ı", "σ", "Σς", "%", "_", "*", "a", "A", "-1",
			"aBc", "203.", "203.0.113.1", "203.0.113.11", "CLIENT-", "\xff", "é", strings.Repeat("ab", 64)),
		Categories: Categories(m.choose(8)),
		Page:       pick(m, 1, 1, 1, 2, 2, 3, 4, 0, math.MaxInt),
		PageSize:   pick(m, 1, 2, 2, 3, 3, 5, 50, 0),
		Totals:     m.choose(2) == 0,
	}
}

func (m *machine) row() Row {
	session := pick(m, m.sessions...)
	return Row{
		Organization:   testOrganization(pick(m, 0, 0, 0, 0, 0, 0, 1)),
		Application:    testApplication(pick(m, 0, 0, 0, 0, 1, 1, 2)),
		Session:        session,
		ServerID:       api.NewServerID(pick(m, "a", "a", "b", "a1", "a:1"), session),
		CreatedAt:      m.now - api.Millis(m.choose(4)),
		IP:             pick(m, "203.0.113.10", "203.0.113.11", "2001:db8::ab"),
		ClientID:       pick(m, session.String(), "client-001", "Client-\xff", "kKſs", "K"),
		Login:          pick(m, "", "john@example.com", "é"),
		License:        pick(m, "", "", "ABCDEF-123456", "abc", "ſtraße", "STRASSE", "STRAẞE", "İi", "Iı", "100%", "a_b*", "Σας"),
		Authorized:     m.choose(2) == 0,
		TokenExpiresAt: pick(m, 0, m.now-1, m.now, m.now+1000),
		LastActiveAt:   pick(m, 0, m.now-2, m.now+3),
		Credential: pick(m, Credential{}, Credential{},
			Credential{Kind: CredentialRollcall, Epoch: uint64(m.choose(4))},
			Credential{Kind: CredentialForeign, IssuedAt: api.Millis(m.choose(4)) * 1000}),
	}
}

// aim mostly points a row at one that is there.
func (m *machine) aim(row Row) Row {
	if a := m.model.applications[row.Application]; a != nil && len(a.rows) > 0 && m.choose(8) > 0 {
		there := a.rows[m.choose(len(a.rows))]
		row.Session, row.ServerID = there.Session, there.ServerID
	}
	return row
}

func (m *machine) setApplication(org api.OrganizationID, app api.ApplicationID, gate Gate) {
	m.t.Helper()
	lastConnection := m.now - 5 + api.Millis(m.choose(10))
	got := m.registry.SetApplication(org, app, gate, lastConnection)
	want := m.model.setApplication(org, app, gate, lastConnection)
	m.same("SetApplication", got, want)
	if m.choose(3) > 0 {
		for _, row := range want {
			m.remove(app, row.ServerID)
		}
	}
}

func (m *machine) remove(app api.ApplicationID, id api.ServerID) {
	m.t.Helper()
	got, ok := m.registry.Remove(app, id)
	want, there := m.model.remove(app, id)
	m.same("Remove", got, want)
	m.same("Remove's ok", ok, there)
}

func (m *machine) same(what string, got, want any) {
	m.t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		m.t.Fatalf("%s: registry (+) differs from model (-):\n%s", what, diff)
	}
}

// step takes one random step and compares.
func (m *machine) step() {
	m.t.Helper()
	switch m.choose(24) {
	case 0, 1, 2, 3, 4, 5:
		m.now += api.Millis(m.choose(2))
		row, limit := m.row(), pick(m, Unlimited, Unlimited, Unlimited, 0, 2, 4)
		m.same("Insert", fmt.Sprint(m.registry.Insert(row, limit)), fmt.Sprint(m.model.insert(row, limit)))
	case 6, 7, 8:
		row, limit := m.aim(m.row()), pick(m, Unlimited, Unlimited, 0, 3)
		m.same("Update", fmt.Sprint(m.registry.Update(row, limit)), fmt.Sprint(m.model.update(row, limit)))
	case 9, 10, 11:
		row := m.aim(m.row())
		m.remove(row.Application, row.ServerID)
	case 12:
		m.touch()
	case 13:
		if m.choose(4) == 0 {
			a := m.choose(3)
			m.setApplication(testOrganization(a/2), testApplication(a), Gate{
				State: pick(m, api.ApplicationActive, api.ApplicationActive, api.ApplicationActive, api.ApplicationPaused,
					api.ApplicationArchived),
				Epoch:     uint64(m.choose(4)),
				RevokedAt: api.Millis(m.choose(3000)),
			})
		}
	case 14, 15:
		m.watch(m.query())
	case 16:
		m.build(m.query())
	case 17:
		m.built()
	case 18:
		if len(m.clients) > 0 {
			i := m.choose(len(m.clients))
			m.clients[i].watch.Close()
			m.clients = slices.Delete(m.clients, i, i+1)
		}
	case 19:
		m.read()
	default:
		if len(m.clients) > 0 {
			m.poll(pick(m, m.clients...))
		}
	}
}

func (m *machine) touch() {
	row := m.aim(m.row())
	at := m.now - 3 + api.Millis(m.choose(6))
	m.registry.Touch(row.Application, row.ServerID, at)
	if a, i := m.model.find(row.Application, row.ServerID); i >= 0 {
		a.rows[i].LastActiveAt = max(a.rows[i].LastActiveAt, at)
	}
}

func (m *machine) watch(q Query) {
	m.t.Helper()
	q = q.normalized()
	if slices.ContainsFunc(m.building, func(b *building) bool { return b.query.Query == q }) {
		return // Watch would wait
	}
	view, watch := m.registry.Watch(q)
	m.same("Watch", view, m.model.page(q))
	m.clients = append(m.clients, &client{query: q, watch: watch, view: view})
}

// build starts a live query as Watch does, but leaves it in its first search, so that steps happen meanwhile.
func (m *machine) build(q Query) {
	q = q.normalized()
	o := m.registry.organization(q.Organization)
	o.lock()
	defer o.unlock()
	if a := o.applicationLocked(q.Application); q.Search != "" && a.queries[q] == nil {
		m.building = append(m.building, &building{query: a.startLocked(q)})
	}
}

func (m *machine) built() {
	if len(m.building) == 0 {
		return
	}
	i := m.choose(len(m.building))
	b := m.building[i]
	if b.look == nil {
		b.look = b.query.prepare(m.registry.tuning.margin, m.choose(2) == 0)
		return
	}
	m.building = slices.Delete(m.building, i, i+1)
	b.look.found.look(b.look.search)
	a := b.query.application
	o := a.organization
	o.lock()
	if f := b.look.finder; f != nil {
		a.countedLocked(f, b.look.found.count)
	}
	b.query.foundLocked(b.look.found)
	o.unlock()
	m.watch(b.query.Query)
}

// poll takes a watcher's step and holds it to G1: page and deltas are a fresh page; and to sharing: the shared delta is the
// watcher's own difference.
func (m *machine) poll(c *client) {
	m.t.Helper()
	before := c.watch.given
	d := c.watch.Poll()
	if own := diff(before, c.watch.given, c.query.Totals); !cmp.Equal(own, d, cmpopts.IgnoreUnexported(Delta{})) {
		m.t.Fatalf("the shared delta (+) is not the watcher's own (-):\n%s", cmp.Diff(own, d, cmpopts.IgnoreUnexported(Delta{})))
	}
	if d != nil {
		if err := c.apply(d); err != nil {
			m.t.Fatalf("query %+v: %v", c.query, err)
		}
	}
	if err := c.check(m.model.page(c.query)); err != nil {
		m.t.Fatalf("%v", err)
	}
}

func (m *machine) read() {
	m.t.Helper()
	q, row := m.query(), m.aim(m.row())
	m.same("List", m.registry.List(q), m.model.page(q.normalized()))
	after := pick(m, nil, &api.Position{CreatedAt: row.CreatedAt, ServerID: row.ServerID}, &api.Position{})
	limit, which := m.choose(8), Range(m.choose(3))
	m.same("Sessions", m.registry.Sessions(row.Application, after, limit, which, m.now),
		m.model.sessions(row.Application, after, limit, which, m.now))
	live, active, idle := m.registry.Counts(row.Application, m.now, 2*time.Millisecond)
	wantLive, wantActive, wantIdle := m.model.counts(row.Application, m.now, 2*time.Millisecond)
	m.same("Counts", []int{live, active, idle}, []int{wantLive, wantActive, wantIdle})
	got, ok := m.registry.Get(row.Application, row.Session)
	a := m.model.applications[row.Application]
	want := Row{}
	i := -1
	if a != nil {
		if i = slices.IndexFunc(a.rows, func(r modelRow) bool { return r.Session == row.Session }); i >= 0 {
			want = a.rows[i].Row
		}
	}
	m.same("Get", got, want)
	m.same("Get's ok", ok, i >= 0)
	m.same("Authorized", m.registry.Authorized(row.Organization), m.model.authorized(row.Organization))
	m.counted()
}

// counted compares the counts that finders keep.
func (m *machine) counted() {
	m.t.Helper()
	for id, a := range m.registry.applications {
		for _, f := range a.finders {
			if want := m.model.page(Query{Organization: a.organization.id, Application: id, Search: f.needle, Categories: f.in, PageSize: 1}); f.counted {
				m.same(fmt.Sprintf("the count of %q", f.needle), f.matches, want.FilteredTotal)
			}
		}
		if len(a.kept) > keptFinders {
			m.t.Fatalf("%d counts are kept", len(a.kept))
		}
	}
}

// finish polls every watcher and closes it; nothing is left then but rows and gates.
func (m *machine) finish() {
	m.t.Helper()
	for len(m.building) > 0 {
		m.built()
	}
	rows := 0
	for _, a := range m.model.applications {
		rows += len(a.rows)
	}
	stats := m.registry.Stats()
	m.same("sessions and watchers", []int{stats.Sessions, stats.Watchers}, []int{rows, len(m.clients)})
	for _, c := range m.clients {
		m.poll(c)
		if d := c.watch.Poll(); d != nil {
			m.t.Fatalf("query %+v: a second poll returns %+v", c.query, d)
		}
	}
	for _, c := range m.clients {
		c.watch.Close()
		c.watch.Close()
	}
	m.same("stats at the end", m.registry.Stats(), Stats{Sessions: rows})
}
