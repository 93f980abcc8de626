package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

// load keeps a population of real clients: each holds a session over its own socket, and a churner makes them come, go and
// change.
type load struct {
	url         string
	app         api.ApplicationID
	tokens      *client.Manage
	publishable string
	transport   *http.Transport
	connecting  chan struct{} // holds one for each client on its way in: a start is a queue, not a storm

	outMu sync.Mutex // lines of many clients stay whole
	out   io.Writer

	mu   sync.Mutex
	here []*visit // in no order
}

const (
	connectingAtOnce = 32
	demoTokenLife    = 10 * time.Minute
)

func newLoad(url string, tokens *client.Manage, publishable string, out io.Writer) *load {
	return &load{url: url, app: api.MustID[api.Application](demoApplication), tokens: tokens, publishable: publishable,
		transport: demoTransport(), connecting: make(chan struct{}, connectingAtOnce), out: out}
}

// visit is one client from its coming to its going.
type visit struct {
	l       *load
	who     persona
	session *client.Session
	leave   context.CancelFunc
	id      api.SessionID // of the session that is open; the session's goroutine's, as is ended
	ended   bool          // an operator ended it
	in      func()        // lets the next client connect: this one is in, or has given up

	// Under l.mu:
	authorized bool
	conn       net.Conn // of a client that goes without a word
}

// run keeps sessions clients there until ctx ends, and returns when they have left.
func (l *load) run(ctx context.Context, sessions int, churn float64) {
	var clients sync.WaitGroup
	back := make(chan struct{}) // each receive is a client that may come
	for range sessions {
		clients.Go(func() {
			for ctx.Err() == nil {
				pause := l.visit(ctx)
				select {
				case <-back:
				case <-time.After(pause):
				case <-ctx.Done():
				}
			}
		})
	}
	if churn > 0 {
		l.churn(ctx, time.Duration(float64(time.Second)/churn), back)
	}
	<-ctx.Done()
	clients.Wait()
}

// churn makes one change an interval: a client comes if one is away, else one goes, or an unauthorized one signs in.
func (l *load) churn(ctx context.Context, interval time.Duration, back chan<- struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if rand.IntN(2) == 0 {
			select {
			case back <- struct{}{}:
				continue
			default:
			}
		}
		v, stranger := l.pick()
		switch {
		case v == nil:
		case stranger && v.who.SignsIn && rand.IntN(3) == 0:
			v.signIn(ctx)
		default:
			v.away()
		}
	}
}

// pick returns a client that is there, and whether it is unauthorized; nil when nobody is.
func (l *load) pick() (v *visit, stranger bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.here) == 0 {
		return nil, false
	}
	v = l.here[rand.IntN(len(l.here))]
	return v, !v.authorized
}

// away makes the client go, politely or not.
func (v *visit) away() {
	v.l.mu.Lock()
	conn := v.conn
	v.l.mu.Unlock()
	if conn != nil {
		_ = conn.Close() // gone is gone
	}
	v.leave()
}

func (l *load) arrived(v *visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.here = append(l.here, v)
}

func (l *load) left(v *visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.here, v); i >= 0 {
		l.here = slices.Delete(l.here, i, i+1)
	}
}

// visit lets a new client come and returns how long until the next takes its place, when it has gone.
func (l *load) visit(ctx context.Context) time.Duration {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	v := &visit{l: l, who: newPersona(), leave: leave, in: sync.OnceFunc(func() { <-l.connecting })}
	select {
	case l.connecting <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	defer v.in()
	s, err := client.NewSession(v.config())
	if err != nil {
		l.print("a client cannot be made: %v", err)
		return time.Minute
	}
	v.session = s
	done := make(chan struct{})
	var busy sync.WaitGroup
	busy.Go(func() { v.work(done) })
	err = s.Run(ctx)
	close(done)
	busy.Wait()
	l.left(v)
	pause := time.Second + rand.N(4*time.Second)
	if err != nil || v.ended {
		pause += 3 * time.Second // not wanted here: somebody else comes later
	}
	return pause
}

func (v *visit) config() client.SessionConfig {
	transport := v.l.transport
	if v.who.Vanishes {
		transport = v.l.transport.Clone()
		transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				v.l.mu.Lock()
				v.conn = conn
				v.l.mu.Unlock()
			}
			return conn, err
		}
	}
	cfg := client.SessionConfig{
		URL: v.l.url, Application: demoNumber, ClientID: v.who.ClientID, Hostname: v.who.Hostname, UserAgent: v.who.UserAgent,
		ClientInfo: v.who.ClientInfo, OnEvent: v.event, HTTPClient: &http.Client{Transport: from{v.who.Address, transport}},
		MinBackoff: 300 * time.Millisecond, MaxBackoff: 5 * time.Second,
	}
	if v.who.Authorized {
		cfg.Token = v.token
	} else {
		cfg.PublishableKey = v.l.publishable
	}
	return cfg
}

func (v *visit) token(ctx context.Context) (string, error) {
	reply, err := v.l.tokens.IssueToken(ctx, v.l.app, api.TokenInput{
		Login: v.who.Login, License: v.who.License, ClientID: v.who.ClientID, ExpiresIn: int(demoTokenLife / time.Second),
	})
	return reply.Token, err
}

// event is told what happens to the client. It runs on the session's goroutine.
func (v *visit) event(e client.Event) {
	switch e := e.(type) {
	case api.Welcome:
		v.id = e.SessionID
		v.l.mu.Lock()
		v.authorized = e.Authorized
		v.l.mu.Unlock()
		v.in()
		v.l.arrived(v)
	case api.Disconnect:
		v.l.print("session %s (%s) received disconnect: code %d, %q%s", v.id, v.who.ClientID, e.Code, e.Reason, v.comeback(e))
		if e.Code == api.CloseDisconnected {
			v.ended = true
			v.leave()
		}
	case client.Closed:
		v.l.left(v)
	}
}

// comeback says what the client will do.
func (v *visit) comeback(d api.Disconnect) string {
	switch {
	case d.Code == api.CloseDisconnected:
		return "; another client takes its place"
	case d.Reconnect && d.Reauthenticate && v.who.Authorized:
		return "; it asks for a new token and comes back"
	case d.Reconnect:
		return "; it comes back"
	}
	return ""
}

// work reports activity, and renames itself now and then, until done. Some clients are idle all the time.
func (v *visit) work(done <-chan struct{}) {
	if v.who.Idle {
		return
	}
	for {
		select {
		case <-done:
			return
		case <-time.After(10*time.Second + rand.N(20*time.Second)):
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if rand.IntN(4) == 0 {
			name := v.who.document()
			_ = v.session.Update(ctx, api.Update{Name: &name}) // the session sees its connection's trouble
		} else {
			_ = v.session.Activity(ctx) // the same
		}
		cancel()
	}
}

// signIn upgrades an unauthorized client.
func (v *visit) signIn(ctx context.Context) {
	v.l.mu.Lock()
	v.authorized = true
	v.l.mu.Unlock()
	token, err := v.token(ctx)
	if err == nil {
		_ = v.session.Authorize(ctx, token) // it left meanwhile
	}
}

func (l *load) print(format string, args ...any) {
	l.outMu.Lock()
	defer l.outMu.Unlock()
	fmt.Fprintf(l.out, "%s  %s\n", time.Now().Format(time.TimeOnly), printable(fmt.Sprintf(format, args...), 0))
}

// from makes requests that come from another address, as a proxy in front of the server would.
type from struct {
	address string
	next    http.RoundTripper
}

// RoundTrip sends a copy of the request with the header.
func (f from) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", f.address)
	return f.next.RoundTrip(r)
}
