package client

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// Query is a live query: what an operator is looking at.
type Query struct {
	Application string // id or number; required
	Page        int    // from 1; 0 = 1
	PageSize    int    // 1 to 50; 0 = 10
	Search      string // case-insensitive substring, at most 128 characters; "" matches all
	Categories  []api.Category
	Totals      bool // a Watch keeps the page's counts true as well
}

func (q Query) values() url.Values {
	v := url.Values{"applicationId": {q.Application}}
	if q.Page != 0 {
		v.Set("page", strconv.Itoa(q.Page))
	}
	if q.PageSize != 0 {
		v.Set("pageSize", strconv.Itoa(q.PageSize))
	}
	if q.Search != "" {
		v.Set("searchString", q.Search)
	}
	for _, c := range q.Categories {
		v.Add("categories", string(c))
	}
	if q.Totals {
		v.Set("totals", "true")
	}
	return v
}

// Live returns a page of live sessions (sessions:read).
func (m *Manage) Live(ctx context.Context, q Query) (api.LiveList, error) {
	q.Totals = false
	return get[api.LiveList](ctx, m.caller, livePath, q.values())
}

// Resolve returns the id of the application with that number, or id (sessions:read; the plan must include the live overview).
func (m *Manage) Resolve(ctx context.Context, application string) (api.ApplicationID, error) {
	header, err := m.exchange(ctx, http.MethodGet, livePath, Query{Application: application, PageSize: 1}.values(), nil, nil)
	if err != nil {
		return api.ApplicationID{}, err
	}
	id, err := api.ParseID[api.Application](header.Get(api.ApplicationHeader))
	if err != nil {
		return id, fmt.Errorf("the server does not name the application: %w", err)
	}
	return id, nil
}

const livePath = "wss/get-application-sessions"

// SessionQuery says which sessions of an application to list, live and ended.
type SessionQuery struct {
	Status  string // active, inactive or all; "" = active
	Limit   int    // of one answer, 1 to 1000; 0 = 100
	Cursor  string // NextCursor of the answer before; "" = from the newest
	Details bool   // fill in Session.Details

	// With Status inactive or all, any of these leaves only sessions that have ended.
	EndedAfter  time.Time       // at or after it; zero = whenever
	EndedBefore time.Time       // before it; zero = whenever
	EndReasons  []api.EndReason // for one of these; none = for any
}

// setTime sets a time that is not zero.
func setTime(v url.Values, name string, t time.Time) {
	if !t.IsZero() {
		v.Set(name, api.Timestamp(api.MillisOf(t)).String())
	}
}

// SessionPage returns one answer of the list of sessions, newest first (sessions:read).
func (m *Manage) SessionPage(ctx context.Context, app api.ApplicationID, q SessionQuery) (api.SessionList, error) {
	v := url.Values{}
	if q.Status != "" {
		v.Set("status", q.Status)
	}
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Cursor != "" {
		v.Set("cursor", q.Cursor)
	}
	if q.Details {
		v.Set("details", "true")
	}
	setTime(v, "endedAfter", q.EndedAfter)
	setTime(v, "endedBefore", q.EndedBefore)
	for _, reason := range q.EndReasons {
		v.Add("endReason", string(reason))
	}
	return get[api.SessionList](ctx, m.caller, sessionsPath(app), v)
}

// Sessions yields all sessions of the list, newest first, asking for more as it goes. A session that stays is yielded once,
// however others come and go meanwhile. After an error, which is yielded, it ends.
func (m *Manage) Sessions(ctx context.Context, app api.ApplicationID, q SessionQuery) iter.Seq2[api.Session, error] {
	return func(yield func(api.Session, error) bool) {
		for {
			list, err := m.SessionPage(ctx, app, q)
			if err != nil {
				yield(api.Session{}, err)
				return
			}
			for _, s := range list.Items {
				if !yield(s, nil) {
					return
				}
			}
			if list.NextCursor == "" {
				return
			}
			q.Cursor = list.NextCursor
		}
	}
}

// Session returns one session, live or ended (sessions:read).
func (m *Manage) Session(ctx context.Context, app api.ApplicationID, id api.SessionID, details bool) (api.Session, error) {
	v := url.Values{}
	if details {
		v.Set("details", "true")
	}
	reply, err := get[api.SessionReply](ctx, m.caller, sessionsPath(app)+"/"+id.String(), v)
	return reply.Session, err
}

// RevokeAll ends all sessions of the application, and refuses every token from before; it returns how many sessions it ended
// (sessions:disconnect). The reason is shown to the clients and recorded; it may be "".
func (m *Manage) RevokeAll(ctx context.Context, app api.ApplicationID, reason string) (int, error) {
	return m.end(ctx, sessionsPath(app), reason)
}

// Disconnect ends one session and denies its tokens (sessions:disconnect). The reason is shown to the client and recorded; it may
// be "".
func (m *Manage) Disconnect(ctx context.Context, app api.ApplicationID, id api.SessionID, reason string) (int, error) {
	return m.end(ctx, sessionsPath(app)+"/"+id.String(), reason)
}

// PreviewMatching returns how many sessions DisconnectMatching would end now, and the time to give it (sessions:disconnect). Nothing
// ends.
func (m *Manage) PreviewMatching(ctx context.Context, app api.ApplicationID, in api.DisconnectInput) (out api.DisconnectPreview, err error) {
	err = m.call(ctx, http.MethodPost, sessionsPath(app)+":disconnect", url.Values{"dryRun": {"true"}}, in, &out)
	return out, err
}

// DisconnectMatching ends the sessions that match the search now and matched it at in.CreatedBefore, which a preview has told, and
// returns how many (sessions:disconnect).
func (m *Manage) DisconnectMatching(ctx context.Context, app api.ApplicationID, in api.DisconnectInput) (int, error) {
	result, err := send[api.DisconnectResult](ctx, m.caller, http.MethodPost, sessionsPath(app)+":disconnect", in)
	return result.DisconnectedCount, err
}

// Series returns how many sessions were live, came and went, by the minute, for the last hour (sessions:read).
func (m *Manage) Series(ctx context.Context, app api.ApplicationID) (api.Series, error) {
	return get[api.Series](ctx, m.caller, "applications/"+app.String()+"/series", nil)
}

func (m *Manage) end(ctx context.Context, path, reason string) (int, error) {
	v := url.Values{}
	if reason != "" {
		v.Set("reason", reason)
	}
	var result api.DisconnectResult
	err := m.call(ctx, http.MethodDelete, path, v, nil, &result)
	return result.DisconnectedCount, err
}

func sessionsPath(app api.ApplicationID) string { return "applications/" + app.String() + "/sessions" }
