package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// SessionConfig configures a Session. URL and one credential are required.
type SessionConfig struct {
	URL string // of the server, such as https://rollcall.example.com; a path is kept as a prefix

	// Token returns a session token. It is asked before every connect, when the server says that the token is about to expire, and
	// after a disconnect that asks for re-authentication, when it must return another token than before or Run ends. Its context
	// ends with the connection that it was asked for. An error is an attempt that failed: it is asked again after a backoff.
	Token func(context.Context) (string, error)
	// PublishableKey opens an unauthorized session; used when Token is nil.
	PublishableKey string

	Application string // id or number; "" = the credential names it
	ClientID    string // 4 to 64 printable characters; "" = none
	Name        string
	Hostname    string
	UserAgent   string          // "" = Go's
	ClientInfo  json.RawMessage // a JSON object of at most 4 KiB; nil = none

	// OnEvent is told everything that happens; nil = nothing is. See Event.
	OnEvent func(Event)

	HTTPClient *http.Client  // for the connection; nil = http.DefaultClient
	MinBackoff time.Duration // bound of the first wait; 0 = 1 s
	MaxBackoff time.Duration // bound of every wait; 0 = 30 s
}

// Event is something that happened to a session, one of
//
//	api.Welcome      the session is open
//	api.TokenNotice  token_expiring: Token is asked next; authorized: the server took the new token
//	api.FrameError   the server refused a frame
//	api.Disconnect   the server ends the session
//	Closed           the connection is gone, or an attempt failed; what follows is in it
type Event any

// Closed is the Event after which there is no connection.
type Closed struct {
	Err     error         // why; nil when the session ended because the caller wanted it
	Final   bool          // no further attempt is made: Run returns
	RetryIn time.Duration // until the next attempt, unless Final
}

// Session holds one session with a server, over as many connections as that takes. Make one with NewSession, then call Run.
type Session struct {
	cfg SessionConfig
	url string

	mu sync.Mutex
	// hello is what the next connection presents: Update changes it, so that what is shown survives a reconnect.
	hello api.Hello
	// conn is the connection that has been welcomed, nil while there is none.
	conn *conn
	// leave ends the Run under way; nil before. left is set once Bye was called, before or during Run.
	leave context.CancelFunc
	left  bool
	// active is when the last activity frame was sent.
	active time.Time

	done chan struct{} // closed when Run returns
}

const (
	connectTimeout = 30 * time.Second // from the first packet to welcome
	writeTimeout   = 10 * time.Second
	byeTimeout     = 2 * time.Second // for the server to answer bye with its close frame
	stableAfter    = 10 * time.Second
	// activityEvery keeps Activity far below the server's 60 frames a minute, however often it is called.
	activityEvery = 2 * time.Second
)

// Hold holds a session until ctx ends, and says goodbye then: NewSession and Run in one.
func Hold(ctx context.Context, cfg SessionConfig) error {
	s, err := NewSession(cfg)
	if err != nil {
		return err
	}
	return s.Run(ctx)
}

// NewSession checks the configuration. Nothing is connected before Run.
func NewSession(cfg SessionConfig) (*Session, error) {
	base, err := baseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.Token == nil && cfg.PublishableKey == "" {
		return nil, errors.New("a session needs a Token or a PublishableKey")
	}
	if cfg.ClientInfo != nil && !json.Valid(cfg.ClientInfo) {
		return nil, errors.New("ClientInfo is not JSON")
	}
	if cfg.MinBackoff <= 0 {
		cfg.MinBackoff = time.Second
	}
	if cfg.MaxBackoff <= 0 {
		cfg.MaxBackoff = 30 * time.Second
	}
	if cfg.OnEvent == nil {
		cfg.OnEvent = func(Event) {}
	}
	s := &Session{cfg: cfg, url: base.JoinPath(api.ConnectPath).String(), done: make(chan struct{})}
	s.hello = api.Hello{Type: api.TypeHello, Application: cfg.Application, ClientID: cfg.ClientID, Name: cfg.Name,
		Hostname: cfg.Hostname, UserAgent: cfg.UserAgent, ClientInfo: cfg.ClientInfo}
	return s, nil
}

// baseURL reads the address of a server; WebSocket schemes are taken for the HTTP ones that they extend.
func baseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("the server's URL: %w", err)
	}
	switch u.Scheme {
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("the server's URL: %q must look like http://127.0.0.1:8080", s)
	}
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

// Run holds the session until ctx ends or Bye is called, and returns nil then, after saying goodbye; or until it cannot be held
// any longer: an *EndedError when the server said not to come back or the only credential was refused, a *StatusError when the
// server refused the upgrade. It may be called once.
func (s *Session) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	if s.leave != nil {
		s.mu.Unlock()
		return errors.New("the session's Run was called before")
	}
	s.leave = cancel
	if s.left {
		cancel()
	}
	s.mu.Unlock()
	defer close(s.done)

	retry := backoff{min: s.cfg.MinBackoff, max: s.cfg.MaxBackoff}
	var last ending // with the tokens that the server will not take again
	for ctx.Err() == nil {
		end := s.attempt(ctx, last)
		if end.err == nil || ctx.Err() != nil {
			break
		}
		if end.final {
			s.cfg.OnEvent(Closed{Err: end.err, Final: true})
			return end.err
		}
		if end.refused != nil || end.lasted > 0 {
			last = end
		}
		if end.lasted >= stableAfter {
			retry.reset()
		}
		in := retry.next(end.retryAfter)
		s.cfg.OnEvent(Closed{Err: end.err, RetryIn: in})
		sleep(ctx, in)
	}
	s.cfg.OnEvent(Closed{Final: true})
	return nil
}

// ending is how an attempt ended. A nil err means that the caller left.
type ending struct {
	err        error
	final      bool
	lasted     time.Duration // since welcome
	retryAfter time.Duration
	refused    []string // tokens that the server will not take again; nil = as before, unless the session was open
}

// attempt gets a token, connects, and stays until the connection has ended.
func (s *Session) attempt(ctx context.Context, last ending) ending {
	s.mu.Lock()
	hello := s.hello
	s.mu.Unlock()
	if s.cfg.Token == nil {
		hello.PublishableKey = s.cfg.PublishableKey
	} else {
		token, err := s.cfg.Token(ctx)
		if err != nil {
			return ending{err: fmt.Errorf("no session token: %w", err), retryAfter: wait(err)}
		}
		if ended, ok := errors.AsType[*EndedError](last.err); ok && slices.Contains(last.refused, token) {
			return ending{err: &EndedError{Disconnect: ended.Disconnect, Cause: ended.Cause, SameToken: true}, final: true}
		}
		hello.Token = token
	}
	c, err := dial(ctx, s, hello)
	if err != nil {
		return ending{err: err, final: final(err), retryAfter: wait(err)}
	}
	return c.run(ctx)
}

// Update changes what is shown of the session; nil fields stay. It is sent now when connected, and kept for every later
// connection. The error is of the connection; what the server refuses comes as an api.FrameError event.
func (s *Session) Update(ctx context.Context, u api.Update) error {
	u.Type = api.TypeUpdate
	s.mu.Lock()
	if u.Name != nil {
		s.hello.Name = *u.Name
	}
	if u.Hostname != nil {
		s.hello.Hostname = *u.Hostname
	}
	if u.ClientInfo != nil {
		s.hello.ClientInfo = u.ClientInfo
	}
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	return c.write(ctx, u)
}

// Activity says that the person or agent did something. It may be called at every keystroke: it sends at most one frame every two
// seconds, and none while there is no connection.
func (s *Session) Activity(ctx context.Context) error {
	s.mu.Lock()
	c, now := s.conn, time.Now()
	if c == nil || now.Sub(s.active) < activityEvery {
		s.mu.Unlock()
		return nil
	}
	s.active = now
	s.mu.Unlock()
	return c.write(ctx, struct {
		Type string `json:"type"`
	}{api.TypeActivity})
}

// ErrNotConnected is returned by what needs a connection while there is none.
var ErrNotConnected = errors.New("the session is not connected")

// Authorize presents a token on the open connection: it authorizes an unauthorized session, or renews one. The answer comes as an
// api.TokenNotice or api.FrameError event. It lasts as long as the connection: the next one presents what the configuration says.
func (s *Session) Authorize(ctx context.Context, token string) error {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		return ErrNotConnected
	}
	return c.authorize(ctx, token)
}

// Bye ends the session cleanly and returns when Run has, or when ctx ends. Without a Run under way it keeps a later one from
// starting.
func (s *Session) Bye(ctx context.Context) error {
	s.mu.Lock()
	s.left = true
	leave := s.leave
	s.mu.Unlock()
	if leave == nil {
		return nil
	}
	leave()
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// setConn publishes the connection that was welcomed, or takes it back.
func (s *Session) setConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
}
