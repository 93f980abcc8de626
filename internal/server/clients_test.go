package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// frame is any frame of the session protocol, as a client that has only read the protocol page would decode it.
type frame struct {
	Type           string `json:"type"`
	SessionID      string `json:"sessionId"`
	ServerID       string `json:"serverId"`
	Authorized     bool   `json:"authorized"`
	Code           any    `json:"code"` // a number in disconnect, a string in error
	Reason         string `json:"reason"`
	Message        string `json:"message"`
	Reauthenticate bool   `json:"reauthenticate"`
	Reconnect      bool   `json:"reconnect"`
}

// session is a stock WebSocket client that holds a session.
type session struct {
	conn     *websocket.Conn
	ID       string
	ServerID string

	ended chan struct{} // closed when reading ended; the fields below may be read then
	last  frame         // the last frame before the end
	code  int           // of the close frame; -1 without one
	at    time.Time     // when last came

	mu     sync.Mutex
	frames []frame // after welcome
}

// hello returns a hello frame with a token for App and the fields changed.
func hello(token string, fields map[string]any) map[string]any {
	h := map[string]any{"type": "hello", "token": token, "application": testkit.Number}
	for k, v := range fields {
		if h[k] = v; v == nil {
			delete(h, k)
		}
	}
	return h
}

// refusal is a connection that was ended before its welcome.
type refusal struct {
	last frame
	err  error
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%s (last frame: %s %v %q)", r.err, r.last.Type, r.last.Code, r.last.Reason)
}

// open connects and says hello. The error is a *refusal, or of the upgrade.
func open(ctx context.Context, s *testkit.Server, first map[string]any) (*session, error) {
	conn, resp, err := websocket.Dial(ctx, s.WebSocket(api.ConnectPath), &websocket.DialOptions{Subprotocols: []string{api.Subprotocol}})
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("HTTP %d: %w", resp.StatusCode, err)
		}
		return nil, err
	}
	c := &session{conn: conn, ended: make(chan struct{})}
	if err := c.send(ctx, first); err != nil {
		return nil, err
	}
	for {
		f, err := c.read(ctx)
		if err != nil {
			conn.CloseNow()
			return nil, &refusal{c.last, err}
		}
		if c.last = f; f.Type == api.TypeWelcome {
			break
		}
	}
	c.ID, c.ServerID = c.last.SessionID, c.last.ServerID
	go c.readAll()
	return c, nil
}

func mustOpen(t testing.TB, s *testkit.Server, first map[string]any) *session {
	t.Helper()
	c, err := open(t.Context(), s, first)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { c.conn.CloseNow() })
	return c
}

func (c *session) send(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return c.conn.Write(ctx, websocket.MessageText, b)
}

func (c *session) read(ctx context.Context) (f frame, err error) {
	_, b, err := c.conn.Read(ctx)
	if err != nil {
		return f, err
	}
	return f, json.Unmarshal(b, &f)
}

func (c *session) readAll() {
	defer close(c.ended)
	for {
		f, err := c.read(context.Background())
		if err != nil {
			c.code = int(websocket.CloseStatus(err))
			return
		}
		c.last, c.at = f, time.Now()
		c.mu.Lock()
		c.frames = append(c.frames, f)
		c.mu.Unlock()
	}
}

// end waits for the end and checks that the disconnect frame came, then the close frame with the same code.
func (c *session) end(t testing.TB, code int) frame {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(15 * time.Second):
		t.Fatalf("session %s was not ended", c.ID)
	}
	if c.last.Type != api.TypeDisconnect || c.last.Code != float64(code) || c.code != code {
		t.Fatalf("session %s ended with frame %+v and close code %d, want disconnect and close with %d", c.ID, c.last, c.code, code)
	}
	return c.last
}

// watcher keeps the page of a live query from the stream's messages alone, and complains when a message does not fit it.
type watcher struct {
	query url.Values
	conn  *websocket.Conn
	slow  time.Duration // between reads

	mu      sync.Mutex
	view    api.View
	inits   int
	deltas  int
	refused []api.Code // of error messages
	problem error
	closed  error
}

// message is any message of a stream.
type message struct {
	Type     string       `json:"type"`
	ServerID api.ServerID `json:"serverId"`
	Value    api.Millis   `json:"value"`
	Row      *api.Row     `json:"row"`
	Code     api.Code     `json:"code"`
	Message  string       `json:"message"`
	api.View
}

func livePath(q url.Values) string {
	if !q.Has("applicationId") {
		q.Set("applicationId", testkit.Number)
	}
	return api.LivePath + "?" + q.Encode()
}

func dialStream(ctx context.Context, s *testkit.Server, key string, q url.Values) (*websocket.Conn, *http.Response, error) {
	conn, resp, err := websocket.Dial(ctx, s.WebSocket(livePath(q)), &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + key}},
	})
	if conn != nil {
		conn.SetReadLimit(1 << 20)
	}
	return conn, resp, err
}

func watch(t testing.TB, s *testkit.Server, key string, q url.Values, slow time.Duration) *watcher {
	t.Helper()
	conn, _, err := dialStream(t.Context(), s, key, q)
	if err != nil {
		t.Fatalf("stream: %v", err)
	}
	w := &watcher{query: q, conn: conn, slow: slow}
	var run sync.WaitGroup
	run.Go(w.run)
	t.Cleanup(func() { conn.CloseNow(); run.Wait() })
	testkit.Eventually(t, "the stream's init", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.inits > 0 || w.closed != nil })
	return w
}

func (w *watcher) run() {
	for {
		_, b, err := w.conn.Read(context.Background())
		w.mu.Lock()
		if err != nil {
			w.closed = err
			w.mu.Unlock()
			return
		}
		var m message
		if err := json.Unmarshal(b, &m); err != nil {
			err = fmt.Errorf("%w in %s", err, b)
			w.problem = errors.Join(w.problem, err)
		} else if err := w.apply(m); err != nil {
			w.problem = errors.Join(w.problem, err)
		}
		w.mu.Unlock()
		time.Sleep(w.slow)
	}
}

// apply does what the document says of each message, and nothing more.
func (w *watcher) apply(m message) error {
	at := func(id api.ServerID) int {
		return slices.IndexFunc(w.view.Items, func(r api.Row) bool { return r.ServerID == id })
	}
	w.deltas++
	switch m.Type {
	case api.TypeInit:
		w.view = m.View
		w.inits++
	case api.TypeRemoved:
		i := at(m.ServerID)
		if i < 0 {
			return fmt.Errorf("removed %s, which is not on the page", m.ServerID)
		}
		w.view.Items = slices.Delete(w.view.Items, i, i+1)
	case api.TypeAdded:
		if at(m.Row.ServerID) >= 0 {
			return fmt.Errorf("added %s, which is on the page", m.Row.ServerID)
		}
		if len(w.view.Items) >= w.view.PageSize {
			return fmt.Errorf("added %s to a full page", m.Row.ServerID)
		}
		w.view.Items = append(w.view.Items, *m.Row)
		slices.SortFunc(w.view.Items, func(a, b api.Row) int { return a.Position().Compare(b.Position()) })
	case api.TypeUpdated:
		i := at(m.Row.ServerID)
		if i < 0 {
			return fmt.Errorf("updated %s, which is not on the page", m.Row.ServerID)
		}
		w.view.Items[i] = *m.Row
	case api.TypeLastConnectionTime:
		if m.Value <= w.view.LastConnectionTime {
			return fmt.Errorf("last_connection_time went from %d to %d", w.view.LastConnectionTime, m.Value)
		}
		w.view.LastConnectionTime = m.Value
	case api.TypeTotals:
		w.view.Counts = m.Counts
	case api.TypeError:
		w.refused = append(w.refused, m.Code)
		return fmt.Errorf("error message: %s %s", m.Code, m.Message)
	default:
		return fmt.Errorf("unknown message type %q", m.Type)
	}
	return nil
}

// page returns what the watcher shows, as JSON for comparison; the counts only when the stream asked for them.
func (w *watcher) page(t testing.TB) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return viewJSON(t, w.view, w.query)
}

func viewJSON(t testing.TB, v api.View, q url.Values) string {
	if q.Get("totals") != "true" {
		v.Counts = api.Counts{}
	}
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// list is the HTTP list of the same query.
func list(t testing.TB, s *testkit.Server, q url.Values) api.LiveList {
	t.Helper()
	var out api.LiveList
	s.Get(t, testkit.Key, livePath(q), &out)
	return out
}
