package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
)

// Watch is a page of live sessions that stays correct. Next waits for it to change; when the connection was lost, the Watch
// reconnects by itself and Next goes on from a fresh init.
type Watch struct {
	m    *Manage
	stop context.CancelFunc
	pump sync.WaitGroup
	wake chan struct{} // holds one: there is something for Next
	room chan struct{} // holds one: Next has taken what waited

	page Page // Next's

	mu sync.Mutex
	// query is what the next connection asks for; asked is what a query message asked for and init has not confirmed yet.
	query Query
	asked *Query
	// conn is nil while there is no connection.
	conn *websocket.Conn
	// waiting are the messages that Next has not taken; at most maxWaiting, then nothing more is read, and the server coalesces
	// (G2).
	waiting []Message
	// lost is set when the page went out of step: everything until the init of another connection is dropped.
	lost bool
	// failed is why the stream cannot go on; set once, by the pump.
	failed error
	// down is why there is no connection; nil from the init of one until that one is lost.
	down error
}

// Message is one message of a live stream as the server sent it.
type Message struct {
	Type string          `json:"type"`
	Raw  json.RawMessage `json:"-"`
}

// Step is what Next returns: the messages that came since the last one, and the page after them.
type Step struct {
	Page     Page
	Messages []Message
	// Refused is the last thing asked on the stream (a disconnect, a query) that the server could not obey; nil when there was none.
	Refused *api.Error
}

const (
	maxWaiting    = 1024
	watchReadSize = 1 << 20 // an init of 50 rows is under 64 KiB
	// streamSilence is how long a server may say nothing. It pings every 30 s.
	streamSilence = 90 * time.Second
)

// Watch opens a stream (sessions:read) and returns once the first page is there. ctx bounds only that; the Watch lives until
// Close.
func (m *Manage) Watch(ctx context.Context, q Query) (*Watch, error) {
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &Watch{m: m, stop: stop, query: q, wake: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	link, err := w.dial(ctx, life)
	if err != nil {
		stop()
		return nil, err
	}
	w.pump.Go(func() { w.run(life, link) })
	select {
	case <-w.wake:
		signal(w.wake) // it is Next's
		return w, nil
	case <-ctx.Done():
		_ = w.Close()
		return nil, context.Cause(ctx)
	}
}

// Close ends the stream and waits until it has.
func (w *Watch) Close() error {
	w.stop()
	w.pump.Wait()
	return nil
}

// ErrClosed is what Next returns after Close.
var ErrClosed = errors.New("the watch was closed")

// Next waits until something has come and returns all of it with the page after it. The first call returns the first page. A
// flush that the network delivers in pieces may be seen in several steps; after the last, the page is exact. An error is final
// and says why the server ended the stream (its *api.Error), or is ctx's.
func (w *Watch) Next(ctx context.Context) (Step, error) {
	for {
		messages, failed := w.take()
		if len(messages) > 0 {
			step, err := w.apply(messages)
			if err == nil {
				return step, nil
			}
			// Whatever went wrong on the way, a fresh page puts it right.
			w.reconnect()
			continue
		}
		if failed != nil {
			return Step{}, failed
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return Step{}, context.Cause(ctx)
		}
	}
}

// Down returns why the stream is not connected at the moment, nil while it is. A Watch that is down shows the page as it was and
// tries to come back, until Next fails.
func (w *Watch) Down() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

func (w *Watch) lose(why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = why
}

func (w *Watch) apply(messages []Message) (Step, error) {
	step := Step{Messages: messages}
	for _, msg := range messages {
		if msg.Type == api.TypeError {
			step.Refused = said(msg.Raw)
		}
		if err := w.page.apply(msg.Type, msg.Raw); err != nil {
			return Step{}, err
		}
	}
	step.Page = w.page.Clone()
	return step, nil
}

func (w *Watch) take() ([]Message, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	messages := w.waiting
	w.waiting = nil
	signal(w.room)
	return messages, w.failed
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// reconnect drops the connection and what waits; the pump takes it from there.
func (w *Watch) reconnect() {
	w.mu.Lock()
	w.waiting, w.lost = nil, true
	conn := w.conn
	w.mu.Unlock()
	w.page = Page{}
	if conn != nil {
		_ = conn.CloseNow()
	}
}

// Disconnect asks the server to end a session of the stream's application (sessions:disconnect). There is no acknowledgement: the
// row leaves the page, and a refusal comes with a Step.
func (w *Watch) Disconnect(ctx context.Context, id api.ServerID) error {
	return w.write(ctx, struct {
		Type     string       `json:"type"`
		ServerID api.ServerID `json:"serverId"`
	}{api.TypeDisconnectSession, id})
}

// Query moves the stream to another page or search; the application and Totals stay. The answer is a Step with a fresh page. While
// the stream is down it returns ErrNotConnected, and the stream comes back with the query.
func (w *Watch) Query(ctx context.Context, q Query) error {
	w.mu.Lock()
	q.Application, q.Totals = w.query.Application, w.query.Totals
	w.asked = &q
	w.mu.Unlock()
	// All of it: what a message leaves out stays as it was on the stream.
	page, size, categories := q.Page, q.PageSize, q.Categories
	if page == 0 {
		page = 1
	}
	if size == 0 {
		size = api.DefaultPageSize
	}
	if len(categories) == 0 {
		categories = []api.Category{api.CategoryLicense}
	}
	return w.write(ctx, struct {
		Type       string         `json:"type"`
		Page       int            `json:"page"`
		PageSize   int            `json:"pageSize"`
		Search     string         `json:"searchString"`
		Categories []api.Category `json:"categories"`
	}{api.TypeQuery, page, size, q.Search, categories})
}

func (w *Watch) write(ctx context.Context, frame any) error {
	w.mu.Lock()
	conn := w.conn
	w.mu.Unlock()
	if conn == nil {
		return ErrNotConnected
	}
	data, err := json.Marshal(frame)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return conn.Write(ctx, websocket.MessageText, data)
}

// link is a connection of a Watch with the timer that ends it when the server falls silent.
type link struct {
	conn    *websocket.Conn
	ctx     context.Context
	end     context.CancelCauseFunc
	silence *time.Timer
}

// dial connects within ctx; the connection lives until life ends.
func (w *Watch) dial(ctx, life context.Context) (*link, error) {
	w.mu.Lock()
	if w.asked != nil {
		w.query, w.asked = *w.asked, nil
	}
	q := w.query
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	defer context.AfterFunc(life, cancel)()

	lctx, end := context.WithCancelCause(life)
	l := &link{ctx: lctx, end: end}
	l.silence = time.AfterFunc(streamSilence, func() { end(errSilent) })
	httpClient := *w.m.cfg.HTTPClient
	httpClient.Timeout = 0 // of calls: it would cut the stream
	conn, err := dialWebSocket(ctx, w.m.url("wss/get-application-sessions", q.values()), &websocket.DialOptions{
		HTTPClient: &httpClient, HTTPHeader: w.m.header(),
		OnPingReceived: func(context.Context, []byte) bool {
			l.silence.Reset(streamSilence)
			return true
		},
	})
	if err != nil {
		l.silence.Stop()
		end(err)
		return nil, err
	}
	conn.SetReadLimit(watchReadSize)
	l.conn = conn
	return l, nil
}

// run reads connections, one after the other, until life ends or the server says that there is no point.
func (w *Watch) run(life context.Context, l *link) {
	retry := backoff{min: 200 * time.Millisecond, max: 15 * time.Second}
	for {
		started := time.Now()
		err := w.read(l)
		if life.Err() != nil {
			w.fail(ErrClosed)
			return
		}
		if done := verdict(err); done != nil {
			w.fail(done)
			return
		}
		if time.Since(started) > stableAfter {
			retry.reset()
		}
		for l = nil; l == nil; {
			w.lose(err)
			if !sleep(life, retry.next(wait(err))) {
				w.fail(ErrClosed)
				return
			}
			if l, err = w.dial(life, life); err != nil && final(err) {
				w.fail(err)
				return
			}
		}
	}
}

// streamError is how a connection ended: what the library saw, and the error message before it.
type streamError struct {
	err  error
	said *api.Error
}

func (e *streamError) Error() string {
	if e.said != nil {
		return e.said.Error()
	}
	return e.err.Error()
}

// verdict returns the error to give up with, nil to reconnect: 1008 says that the key, plan or application no longer allows the
// stream.
func verdict(err error) error {
	var ended *streamError
	var closed websocket.CloseError
	if !errors.As(err, &ended) || !errors.As(ended.err, &closed) || api.CloseCode(closed.Code) != api.ClosePolicy {
		return nil
	}
	if ended.said == nil {
		return fmt.Errorf("the server ended the stream: %s", closed.Reason)
	}
	return &StatusError{Status: ended.said.Code.Status(), Err: ended.said}
}

// read hands messages to Next until the connection fails.
func (w *Watch) read(l *link) error {
	w.mu.Lock()
	w.conn = l.conn
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.conn = nil
		w.mu.Unlock()
		l.silence.Stop()
		l.end(nil)
		_ = l.conn.CloseNow()
	}()
	var last *api.Error
	for fresh := true; ; { // until this connection's init
		_, raw, err := l.conn.Read(l.ctx)
		if err != nil {
			return &streamError{err: err, said: last}
		}
		l.silence.Reset(streamSilence)
		m := Message{Raw: raw}
		if err := json.Unmarshal(raw, &m); err != nil {
			return &streamError{err: fmt.Errorf("a message that is not a JSON object: %w", err)}
		}
		if last = nil; m.Type == api.TypeError {
			last = said(raw)
		}
		if !w.put(l.ctx, m, fresh) {
			return &streamError{err: context.Cause(l.ctx)}
		}
		fresh = fresh && m.Type != api.TypeInit
	}
}

// said reads an error message.
func said(raw []byte) *api.Error {
	var e api.StreamError
	_ = json.Unmarshal(raw, &e) // what can be read of it
	return &api.Error{Code: e.Code, Message: e.Message}
}

// put keeps a message for Next, once there is room. Before the init of a new connection, what an earlier one left is dropped.
func (w *Watch) put(ctx context.Context, m Message, fresh bool) bool {
	for {
		w.mu.Lock()
		if fresh && m.Type == api.TypeInit {
			w.waiting, w.lost, w.down = nil, false, nil
		}
		if w.lost {
			w.mu.Unlock()
			return true
		}
		if len(w.waiting) < maxWaiting {
			w.waiting = append(w.waiting, m)
			w.confirmLocked(m)
			w.mu.Unlock()
			signal(w.wake)
			return true
		}
		w.mu.Unlock()
		select {
		case <-w.room:
		case <-ctx.Done():
			return false
		}
	}
}

// confirmLocked makes the query that was asked for the one to reconnect with, or forgets it.
func (w *Watch) confirmLocked(m Message) {
	switch {
	case w.asked == nil:
	case m.Type == api.TypeInit:
		w.query, w.asked = *w.asked, nil
	case m.Type == api.TypeError:
		w.asked = nil
	}
}

func (w *Watch) fail(err error) {
	w.mu.Lock()
	w.failed = err
	w.mu.Unlock()
	signal(w.wake)
}
