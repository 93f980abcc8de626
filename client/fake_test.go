package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// script is what a fake server does with one connection. hello is the client's first frame; nil on a live stream.
type script func(p *peer, hello *api.Hello)

// fake is a server that follows scripts, over pipes, so that it runs on the fake clock of synctest.
type fake struct {
	t      *testing.T
	conns  chan net.Conn
	closed chan struct{}
	client *http.Client

	handlers sync.WaitGroup

	mu sync.Mutex
	// scripts are followed one a connection; the last one again and again.
	scripts []script
	// refuse answers the upgrade instead, when it returns true.
	refuse func(w http.ResponseWriter, r *http.Request) bool
	// times are when connections came, queries what they asked for.
	times   []time.Time
	queries []string
}

func newFake(t *testing.T, scripts ...script) *fake {
	f := &fake{t: t, conns: make(chan net.Conn), closed: make(chan struct{}), scripts: scripts}
	srv := &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = srv.Serve(f) })
	transport := &http.Transport{DialContext: f.dial, DisableKeepAlives: true}
	f.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		_ = srv.Close()
		serving.Wait()
		f.handlers.Wait()
		transport.CloseIdleConnections()
	})
	return f
}

func (f *fake) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case f.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.closed:
		return nil, errors.New("the fake server is closed")
	}
}

// Accept, Close and Addr make the fake a net.Listener.
func (f *fake) Accept() (net.Conn, error) {
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *fake) Close() error {
	close(f.closed)
	return nil
}

func (f *fake) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.handlers.Add(1)
	defer f.handlers.Done()
	f.mu.Lock()
	f.times = append(f.times, time.Now())
	f.queries = append(f.queries, r.URL.RawQuery)
	n, refuse := len(f.times), f.refuse
	do := f.scripts[min(n, len(f.scripts))-1]
	f.mu.Unlock()
	if refuse != nil && refuse(w, r) {
		return
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{api.Subprotocol}})
	if err != nil {
		return
	}
	p := &peer{f: f, ws: ws, ctx: context.WithoutCancel(r.Context()), frames: make(chan map[string]any, 100)}
	if r.URL.Path != api.ConnectPath {
		go p.read()
		do(p, nil)
		_ = ws.CloseNow()
		return
	}
	_, raw, err := ws.Read(p.ctx)
	if err != nil {
		return
	}
	var hello api.Hello
	if err := json.Unmarshal(raw, &hello); err != nil {
		f.t.Errorf("hello %s: %v", raw, err)
	}
	go p.read()
	do(p, &hello)
	_ = ws.CloseNow()
}

// count returns how many connections came.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.times)
}

func (f *fake) gap(i int) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times[i+1].Sub(f.times[i])
}

// peer is the server's end of a connection.
type peer struct {
	f      *fake
	ws     *websocket.Conn
	ctx    context.Context
	frames chan map[string]any // what the client sent after hello; closed when it is gone
}

func (p *peer) read() {
	defer close(p.frames)
	for {
		_, raw, err := p.ws.Read(p.ctx)
		if err != nil {
			return
		}
		var frame map[string]any
		if err := json.Unmarshal(raw, &frame); err != nil {
			p.f.t.Errorf("the client sent %s", raw)
		}
		p.frames <- frame
	}
}

func (p *peer) send(v any) {
	raw, ok := v.(string)
	if !ok {
		b, err := json.Marshal(v)
		if err != nil {
			p.f.t.Error(err)
		}
		raw = string(b)
	}
	_ = p.ws.Write(p.ctx, websocket.MessageText, []byte(raw))
}

func (p *peer) welcome() {
	p.send(fmt.Sprintf(`{"type":"welcome","sessionId":%q,"serverId":"srv-01:%s","authorized":true,"pingIntervalMs":25000}`, sessionID, sessionID))
}

const sessionID = "44444444-4444-4444-8444-444444444444"

// end sends the disconnect frame and the close frame, as page 3 has it.
func (p *peer) end(code api.CloseCode, reason string, retryAfterMs int64) {
	d := api.NewDisconnect(code, reason, retryAfterMs)
	p.send(d)
	_ = p.ws.Close(websocket.StatusCode(code), d.Reason)
}

// stay pings until the client is gone, and returns the frames that it sent.
func (p *peer) stay() []map[string]any {
	stop := make(chan struct{})
	var pings sync.WaitGroup
	pings.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(25 * time.Second):
				ctx, cancel := context.WithTimeout(p.ctx, 10*time.Second)
				if p.ws.Ping(ctx) != nil {
					_ = p.ws.CloseNow()
				}
				cancel()
			}
		}
	})
	defer pings.Wait()
	defer close(stop)
	var all []map[string]any
	for frame := range p.frames {
		all = append(all, frame)
		if frame["type"] == "bye" {
			_ = p.ws.Close(websocket.StatusNormalClosure, "")
		}
	}
	return all
}

// tokens counts how often a token was asked for and returns t1, t2, ….
type tokens struct {
	mu sync.Mutex
	n  int
}

func (t *tokens) next(context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	return fmt.Sprintf("t%d", t.n), nil
}

func (t *tokens) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// events collects what OnEvent was told.
type events struct {
	mu  sync.Mutex
	all []client.Event
}

func (e *events) add(ev client.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

// names returns the kinds of events in order.
func (e *events) names() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for _, ev := range e.all {
		switch ev := ev.(type) {
		case api.Welcome:
			names = append(names, "welcome")
		case api.TokenNotice:
			names = append(names, ev.Type)
		case api.FrameError:
			names = append(names, "error "+string(ev.Code))
		case api.Disconnect:
			names = append(names, fmt.Sprint("disconnect ", ev.Code))
		case client.Closed:
			names = append(names, map[bool]string{false: "closed", true: "closed for good"}[ev.Final])
		}
	}
	return names
}

// held runs a session until the test ends or it has ended by itself.
type held struct {
	*client.Session
	t      *testing.T
	events events
	stop   context.CancelFunc
	done   chan error
}

func (f *fake) hold(cfg client.SessionConfig) *held {
	f.t.Helper()
	h := &held{t: f.t, done: make(chan error, 1)}
	cfg.URL, cfg.HTTPClient = "http://rollcall.test", f.client
	more := cfg.OnEvent
	cfg.OnEvent = func(e client.Event) {
		h.events.add(e)
		if more != nil {
			more(e)
		}
	}
	s, err := client.NewSession(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	h.Session = s
	var ctx context.Context
	ctx, h.stop = context.WithCancel(context.Background())
	go func() { h.done <- s.Run(ctx) }()
	return h
}

// end stops the session and returns what Run said.
func (h *held) end() error {
	h.stop()
	return <-h.done
}
