package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// serverFlag says where the server is.
type serverFlag struct {
	URL string `default:"http://127.0.0.1:8080" help:"Address of the server."`
}

// keyFlags are what every call of the management API needs.
type keyFlags struct {
	serverFlag
	Key string `placeholder:"rck_…" help:"API key."`
}

// manage returns the client, or says which flag is missing.
func (f keyFlags) manage(io *stdio) (*client.Manage, error) {
	if f.Key == "" {
		return nil, missing("there is no API key", "give one with --key or ROLLCALL_KEY")
	}
	m, err := client.NewManage(client.ManageConfig{URL: f.URL, Key: f.Key, OnPartial: func(missing string) {
		fmt.Fprintf(io.err, "rollcall: the answer is partial: %s is away\n", printable(missing, 0))
	}})
	if err != nil {
		return nil, usageError{err}
	}
	return m, nil
}

// applicationFlag names an application.
type applicationFlag struct {
	Application string `short:"a" placeholder:"ID" help:"Application: its number or its UUID."`
}

func (f applicationFlag) required() error {
	if f.Application == "" {
		return missing("there is no application", "give its number or UUID with --application or ROLLCALL_APPLICATION")
	}
	return nil
}

// manageOne is manage for calls about one application, with its UUID.
func (f keyFlags) manageOne(ctx context.Context, io *stdio, of applicationFlag) (*client.Manage, api.ApplicationID, error) {
	m, err := f.manage(io)
	if err != nil {
		return nil, api.ApplicationID{}, err
	}
	app, err := of.id(ctx, m)
	return m, app, err
}

// id returns the UUID that the Sessions dialect wants; a number is looked up among the applications that the key may see.
func (f applicationFlag) id(ctx context.Context, m *client.Manage) (api.ApplicationID, error) {
	if err := f.required(); err != nil {
		return api.ApplicationID{}, err
	}
	if id, err := api.ParseID[api.Application](f.Application); err == nil {
		return id, nil
	}
	if f.Application == "" || strings.Trim(f.Application, "0123456789") != "" {
		return api.ApplicationID{}, usagef("--application: %q is neither a number nor a UUID", f.Application)
	}
	apps, err := m.Applications(ctx)
	if api.CodeOf(err) == api.CodeInsufficientScope {
		id, cannot := m.Resolve(ctx, f.Application) // a key that reads sessions may know which application's they are
		if code := api.CodeOf(cannot); code == api.CodeInsufficientScope || code == api.CodePlanRestricted {
			return id, hinted{err, "give the application's UUID instead of its number"}
		}
		return id, cannot
	}
	if err != nil {
		return api.ApplicationID{}, err
	}
	i := slices.IndexFunc(apps, func(a api.Application) bool { return a.Number == f.Application })
	if i < 0 {
		return api.ApplicationID{}, api.Errorf(api.CodeApplicationNotFound, "the key has no application %s", f.Application)
	}
	return apps[i].ID, nil
}

type sessionsCmd struct {
	List       listCmd       `cmd:"" help:"List sessions: with their status, or as the page of live sessions that a search finds."`
	Get        getCmd        `cmd:"" help:"Show one session."`
	Watch      watchCmd      `cmd:"" help:"Follow a page of live sessions: a table to work with on a terminal, else one JSON object a change."`
	Disconnect disconnectCmd `cmd:"" help:"End one session, or those that a search finds."`
	RevokeAll  revokeAllCmd  `cmd:"" help:"End all sessions of an application and refuse their tokens."`
}

// queryFlags are a live query.
type queryFlags struct {
	Search     string         `short:"s" placeholder:"TEXT" help:"Show only what contains TEXT."`
	Categories []api.Category `enum:"license,ip,clientId" default:"license" help:"Where to search: ${enum}."`
	Page       *int           `help:"Which page; from 1, the default."`
	PageSize   *int           `help:"Rows of a page, 1 to 50; 10 by default."`
}

func (f queryFlags) query(app string) client.Query {
	q := client.Query{Application: app, Search: f.Search, Categories: f.Categories}
	if f.Page != nil {
		q.Page = *f.Page
	}
	if f.PageSize != nil {
		q.PageSize = *f.PageSize
	}
	return q
}

type listCmd struct {
	keyFlags
	applicationFlag
	listOutputFlag
	queryFlags
	Live   bool   `help:"List a page of live sessions, as --search does."`
	Status string `enum:"active,inactive,all" default:"active" help:"Which sessions, without --search or --live: ${enum}."`
	Limit  int    `default:"100" help:"How many at most, without --search or --live; 0 is all."`
	All    bool   `help:"List all: every page of a search, or every session."`
}

// Validate bounds what the server would not see.
func (c listCmd) Validate() error {
	if c.Limit < 0 {
		return fmt.Errorf("--limit must not be negative")
	}
	if !c.isLive() && (c.Page != nil || c.PageSize != nil) {
		return fmt.Errorf("--page and --page-size go with --live or --search; without, there is --limit")
	}
	if c.All && c.Page != nil {
		return fmt.Errorf("--all and --page exclude each other")
	}
	return nil
}

func (c listCmd) isLive() bool { return c.Live || c.Search != "" }

// Run lists in the Sessions dialect, or in the Live Sessions dialect when a search is asked for.
func (c listCmd) Run(ctx context.Context, io *stdio) error {
	m, err := c.manage(io)
	if err != nil {
		return err
	}
	if err := c.required(); err != nil {
		return err
	}
	if c.isLive() {
		return c.live(ctx, io, m)
	}
	app, err := c.id(ctx, m)
	if err != nil {
		return err
	}
	list := api.SessionList{Items: []api.Session{}}
	q := client.SessionQuery{Status: c.Status, Details: true, Limit: api.MaxLimit}
	if c.All {
		c.Limit = 0
	}
	if c.Limit > 0 {
		q.Limit = min(c.Limit, api.MaxLimit)
	}
	for s, err := range m.Sessions(ctx, app, q) {
		if err != nil {
			return err
		}
		if list.Items = append(list.Items, s); len(list.Items) == c.Limit {
			break
		}
	}
	switch {
	case c.json():
		return printJSON(io.out, list)
	case c.csv():
		return printSessionsCSV(io.out, list.Items)
	}
	t := newTable("SESSION", "NAME", "STATUS", "LOGIN", "LICENSE", "CLIENT", "ADDRESS", "CREATED")
	for _, s := range list.Items {
		d := s.Details
		if d == nil {
			d = &api.Details{}
		}
		t.add(s.ID.String(), s.Name, string(s.DerivedStatus), text(d.Login), text(d.License), d.ClientID, d.IPAddress,
			s.CreatedAt.String())
	}
	return t.print(io.out)
}

func (c listCmd) live(ctx context.Context, io *stdio, m *client.Manage) error {
	list, err := c.livePages(ctx, m)
	if err != nil {
		return err
	}
	switch {
	case c.json():
		return printJSON(io.out, list)
	case c.csv():
		return printRowsCSV(io.out, list.Items)
	}
	t := newTable("SERVER ID", "ADDRESS", "CREATED", "CLIENT", "LOGIN", "LICENSE")
	for _, r := range list.Items {
		// The server id whole: it is what disconnect takes.
		t.add("", r.IPAddress, when(r.CreatedAt), r.ClientID, text(r.Login), text(r.License)).set(0, string(r.ServerID))
	}
	if err := t.print(io.out); err != nil {
		return err
	}
	if c.All {
		_, err = fmt.Fprintf(io.out, "%d matching, %d live, %d authorized in the organization\n", len(list.Items), list.Total,
			list.AuthorizedSessionCount)
		return err
	}
	pages := max(1, (list.FilteredTotal+list.PageSize-1)/list.PageSize)
	_, err = fmt.Fprintf(io.out, "page %d of %d: %d matching, %d live, %d authorized in the organization\n",
		list.Page, pages, list.FilteredTotal, list.Total, list.AuthorizedSessionCount)
	return err
}

// livePages returns the page that was asked for, or with --all every page as one. Those are read one after the other: a session that
// moves to a page that was read already, because newer ones ended meanwhile, is missed; none is listed twice.
func (c listCmd) livePages(ctx context.Context, m *client.Manage) (api.LiveList, error) {
	q := c.query(c.Application)
	if !c.All {
		return m.Live(ctx, q)
	}
	var whole api.LiveList
	seen := map[api.ServerID]bool{}
	for q.Page = 1; ; q.Page++ {
		q.PageSize = api.MaxPageSize
		page, err := m.Live(ctx, q)
		if err != nil {
			return page, err
		}
		items := whole.Items
		for _, r := range page.Items {
			if !seen[r.ServerID] {
				seen[r.ServerID] = true
				items = append(items, r)
			}
		}
		whole = page
		if whole.Items = items; len(page.Items) < page.PageSize {
			break
		}
	}
	// One page that holds all.
	whole.Page, whole.PageSize, whole.FilteredTotal = 1, max(1, len(whole.Items)), len(whole.Items)
	return whole, nil
}

func when(m api.Millis) string {
	if m == 0 {
		return ""
	}
	return m.Time().Format(time.RFC3339)
}

type getCmd struct {
	keyFlags
	applicationFlag
	outputFlag
	Session string `arg:"" help:"Session id, or the server id of a live session."`
}

// Run shows one session with its details.
func (c getCmd) Run(ctx context.Context, io *stdio) error {
	m, app, id, err := c.target(ctx, io, c.applicationFlag, c.Session)
	if err != nil {
		return err
	}
	s, err := m.Session(ctx, app, id, true)
	if err != nil {
		return err
	}
	if c.json() {
		return printJSON(io.out, api.SessionReply{Session: s})
	}
	t := newTable("FIELD", "VALUE")
	for _, f := range sessionFields(s) {
		t.add(f[0], "").set(1, f[1])
	}
	return t.print(io.out)
}

// sessionFields lists what is known of a session.
func sessionFields(s api.Session) [][2]string {
	return slices.DeleteFunc(allFields(s), func(f [2]string) bool { return f[1] == "" })
}

// allFields lists the fields of a session, "" for what is unknown. Without details those are left out.
func allFields(s api.Session) [][2]string {
	at := func(t *api.Timestamp) string {
		if t == nil {
			return ""
		}
		return t.String()
	}
	fields := [][2]string{
		{"id", s.ID.String()},
		{"name", s.Name},
		{"status", string(s.Status)},
		{"derivedStatus", string(s.DerivedStatus)},
		{"createdAt", s.CreatedAt.String()},
		{"connectedAt", at(s.ConnectedAt)},
		{"lastActiveAt", at(s.LastActiveAt)},
		{"tokenExpiresAt", at(s.TokenExpiresAt)},
		{"disconnectedAt", at(s.DisconnectedAt)},
		{"hostname", text(s.Hostname)},
		{"userAgent", text(s.UserAgent)},
		{"clientInfo", strings.TrimPrefix(string(s.ClientInfo), "null")},
	}
	if d := s.Details; d != nil {
		fields = append(fields, [][2]string{
			{"serverId", string(d.ServerID)},
			{"ipAddress", d.IPAddress},
			{"login", text(d.Login)},
			{"license", text(d.License)},
			{"clientId", d.ClientID},
			{"authorized", strconv.FormatBool(d.Authorized)},
			{"endReason", string(d.EndReason)},
			{"endedBy", d.EndedBy},
			{"reason", d.Reason},
		}...)
	}
	return fields
}

// target resolves what get and disconnect are about.
func (f keyFlags) target(ctx context.Context, io *stdio, app applicationFlag, session string) (
	*client.Manage, api.ApplicationID, api.SessionID, error,
) {
	m, err := f.manage(io)
	if err != nil {
		return nil, api.ApplicationID{}, api.SessionID{}, err
	}
	id, err := parseSession(session)
	if err != nil {
		return nil, api.ApplicationID{}, api.SessionID{}, err
	}
	appID, err := app.id(ctx, m)
	return m, appID, id, err
}

// parseSession reads a session id, or takes it out of a server id.
func parseSession(s string) (api.SessionID, error) {
	if _, id, ok := api.ServerID(s).Split(); ok {
		return id, nil
	}
	id, err := api.ParseID[api.Session](s)
	if err != nil {
		return id, usagef("%q is neither a session id (a UUID) nor a server id (node:UUID)", s)
	}
	return id, nil
}

// unlessDone returns nil when a signal ended the work: that is how such commands end well.
func unlessDone(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

type disconnectCmd struct {
	keyFlags
	applicationFlag
	outputFlag
	matchingFlags
	Session string `arg:"" optional:"" help:"Session id, or the server id of a live session."`
	Reason  string `placeholder:"TEXT" help:"Shown to the client and recorded."`
}

// Validate wants one way of saying which sessions.
func (c disconnectCmd) Validate() error {
	if (c.Session == "") == (c.Search == "") {
		return fmt.Errorf("give a session, or --search; revoke-all ends all")
	}
	if c.Search == "" && (c.DryRun || c.Before != nil) {
		return fmt.Errorf("--dry-run and --before go with --search")
	}
	return nil
}

// Run ends one session.
func (c disconnectCmd) Run(ctx context.Context, io *stdio) error {
	if c.Search != "" {
		return c.matching(ctx, io)
	}
	m, app, id, err := c.target(ctx, io, c.applicationFlag, c.Session)
	if err != nil {
		return err
	}
	n, err := m.Disconnect(ctx, app, id, c.Reason)
	if err != nil {
		return err
	}
	return c.ended(io, n)
}

func (o outputFlag) ended(io *stdio, n int) error {
	if o.json() {
		return printJSON(io.out, api.DisconnectResult{Success: true, DisconnectedCount: n})
	}
	noun := "sessions"
	if n == 1 {
		noun = "session"
	}
	_, err := fmt.Fprintf(io.out, "%d %s disconnected\n", n, noun)
	return err
}

type revokeAllCmd struct {
	keyFlags
	applicationFlag
	outputFlag
	Reason string `placeholder:"TEXT" help:"Shown to the clients and recorded."`
}

// Run ends all sessions of the application.
func (c revokeAllCmd) Run(ctx context.Context, io *stdio) error {
	m, app, err := c.manageOne(ctx, io, c.applicationFlag)
	if err != nil {
		return err
	}
	n, err := m.RevokeAll(ctx, app, c.Reason)
	if err != nil {
		return err
	}
	return c.ended(io, n)
}
