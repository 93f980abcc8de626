package gateway

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/view"
)

// leaseCall is one request of a lease's client.
type leaseCall struct {
	*Gateway
	w   http.ResponseWriter
	r   *http.Request
	now time.Time

	read   bytes.Buffer // what was read of the body
	asked  string       // the node that the request was passed on to
	passed *bool        // of a request that another node has passed on: set when the lease is not held here
}

func (g *Gateway) newLeaseCall(w http.ResponseWriter, r *http.Request) *leaseCall {
	c := &leaseCall{Gateway: g, w: w, r: r, now: time.Now()}
	c.passed, _ = r.Context().Value(passedOn{}).(*bool)
	if r.Body != nil {
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &c.read), r.Body}
	}
	return c
}

// leaseRoutes serves the HTTP lease of page 3.
func (g *Gateway) leaseRoutes() *http.ServeMux {
	mux := http.NewServeMux()
	route := func(path string, methods map[string]func(*leaseCall) error) {
		var allow []string
		for _, m := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			if methods[m] != nil {
				allow = append(allow, m)
			}
		}
		allowed := strings.Join(allow, ", ")
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			c := g.newLeaseCall(w, r)
			do := methods[r.Method]
			if do == nil {
				w.Header().Set("Allow", allowed)
				c.refuse(api.Errorf(api.CodeMethodNotAllowed, "this path takes %s", allowed))
				return
			}
			if err := do(c); err != nil && !errors.Is(err, errAnswered) {
				c.refuse(err)
			}
		})
	}
	type methods = map[string]func(*leaseCall) error
	one := api.SessionsPath + "/{sessionId}"
	route(api.SessionsPath, methods{http.MethodPost: (*leaseCall).open})
	route(one, methods{http.MethodDelete: (*leaseCall).end})
	route(one+"/heartbeat", methods{http.MethodPost: (*leaseCall).heartbeat})
	route(one+"/events", methods{http.MethodGet: (*leaseCall).watch})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		g.newLeaseCall(w, r).refuse(api.Errorf(api.CodeNotFound, "there is nothing at this path"))
	})
	return mux
}

// Serves tells whether a path is the session protocol's.
func Serves(path string) bool {
	return path == api.ConnectPath || path == api.SessionsPath || strings.HasPrefix(path, api.SessionsPath+"/")
}

// refuse answers with an error, in the Sessions dialect.
func (c *leaseCall) refuse(err error) {
	gone, ended := errors.AsType[*goneError](err)
	if !ended {
		if api.CodeOf(err) == api.CodeInternal {
			c.log.Error("a request of a lease failed", "err", err)
		}
		if told := toldError(err); told.Code.Status() == http.StatusUnauthorized {
			c.w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, section 11.6.1
		}
		c.refuseHTTP(c.w, err)
		return
	}
	c.json(http.StatusGone, api.EndedError{Message: gone.Error(), StatusCode: http.StatusGone, Code: api.CodeSessionEnded,
		Reason: gone.reason, Reauthenticate: gone.reason.Reauthenticate()})
}

func (c *leaseCall) json(status int, v any) {
	body := append(encode(v), '\n')
	h := c.w.Header()
	h.Set("X-Request-Id", uuid.NewString())
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	c.w.WriteHeader(status)
	_, _ = c.w.Write(body) // the client is gone, and there is nobody to tell
}

// bearer returns the credential of the request, a session token or a publishable key.
func (c *leaseCall) bearer() (string, error) {
	headers := c.r.Header.Values("Authorization")
	if len(headers) == 1 {
		scheme, token, _ := strings.Cut(headers[0], " ")
		if token = strings.TrimSpace(token); strings.EqualFold(scheme, "Bearer") && token != "" {
			return token, nil
		}
	}
	return "", api.Errorf(api.CodeTokenInvalid, "a session token is required, once: Authorization: Bearer <session token>")
}

// body reads a body that may be left out.
func (c *leaseCall) body() (*input.Object, error) {
	if c.r.ContentLength == 0 {
		return input.Empty(), nil
	}
	o, err := input.ReadBody(c.w, c.r, api.MaxBody)
	if err != nil {
		return nil, err
	}
	return o.NullIsNone(), nil
}

// open is POST /sessions: hello, with an answer for a welcome.
func (c *leaseCall) open() error {
	bearer, unauthorized := c.bearer()
	o, err := c.body()
	if err != nil {
		if unauthorized != nil && api.CodeOf(err) != api.CodeBodyTooLarge {
			return unauthorized // the key goes before validation (page 2)
		}
		return err
	}
	if kind := o.String("type"); kind != nil && *kind != api.TypeHello {
		o.Fail("type", "hello, or left out")
	}
	seconds := api.DefaultLeaseSeconds
	if given := o.Integer("leaseSeconds", api.MinLeaseSeconds, api.MaxLeaseSeconds); given != nil {
		seconds = *given
	}
	f := &frame{api.TypeHello, o}
	h, _ := readHello(f)
	if err := o.Done(); err != nil {
		return err
	}
	up := readUpgrade(c.r)
	up.bearer = nil
	if h.token == nil && h.publishableKey == nil {
		if unauthorized != nil {
			return unauthorized
		}
		if isPublishable(bearer) {
			o.Set("publishableKey", bearer)
		} else {
			up.bearer = &bearer
		}
	}
	l := c.newLease("", seconds)
	defer l.give()
	if err := c.admitLease(l, c.r.RemoteAddr); err != nil {
		return err
	}
	s := l.session
	s.record.IP, s.upgrade = c.r.RemoteAddr, up
	s.hello(f, c.now)
	for s.postponed != nil {
		s.postponed.await(c.stopping)
		s.resume()
	}
	if !s.open || s.hasEnded() {
		return l.refusal()
	}
	if err := c.keep(l); err != nil {
		return err
	}
	c.json(http.StatusCreated, api.LeaseReply{Session: s.show(), HeartbeatSeconds: seconds / 3})
	return nil
}

// isPublishable tells whether a credential is meant to be a publishable key: no token begins like one.
func isPublishable(credential string) bool { return strings.HasPrefix(credential, "rca_") }

// refusal returns why a lease was not opened, as its client is told.
func (l *lease) refusal() error {
	over, _ := l.state()
	if over == nil {
		return unavailable("the session cannot be opened now: try again")
	}
	c := &over.cause
	switch {
	case c.refusal != nil:
		return c.refusal
	case c.close == api.CloseApplicationPaused:
		return api.Errorf(api.CodeApplicationPaused, "the application is paused")
	case c.close == api.CloseApplicationArchive:
		return api.Errorf(api.CodeApplicationArchived, "the application is archived")
	case c.close == api.CloseQuotaExceeded:
		return &api.Error{Code: api.CodeQuotaExceeded, RetryAfter: 5 * comeBackSoon(),
			Message: "the plan's authorized sessions are used up"}
	case over.live: // it ended before the answer
		return goneOf(&over.record)
	default:
		return &api.Error{Code: api.CodeUnavailable, Message: c.text,
			RetryAfter: max(time.Second, time.Duration(c.retryAfterMs)*time.Millisecond)}
	}
}

// show returns the session for the wire.
func (s *session) show() api.Session {
	s.mu.Lock()
	row, record := s.rowLocked(), s.record
	s.mu.Unlock()
	app, _ := s.gateway.cfg.Tenants.Application(record.Application)
	return view.Session(app, &row, &record, s.gateway.now(), false)
}

// heartbeat is POST /sessions/{id}/heartbeat.
func (c *leaseCall) heartbeat() error {
	bearer, id, err := c.credentials()
	if err != nil {
		return err
	}
	o, err := c.body()
	if err != nil {
		return err
	}
	active, name, hostname, clientInfo := o.Boolean("active"), o.Text("name"), o.Text("hostname"), o.ClientInfo("clientInfo")
	if err := o.Done(); err != nil {
		return err
	}
	l, grant, err := c.hold(bearer, id)
	if err != nil {
		return err
	}
	defer l.give()
	s := l.session
	if !s.bucket.take(c.now, c.limits.FramesPerMinute, c.limits.FrameBurst) {
		return c.tooMany()
	}
	if err := s.renewToken(grant, c.now); err != nil {
		return l.endedOr(err)
	}
	if err := s.change(name, hostname, clientInfo); err != nil {
		return err
	}
	if active == nil || *active {
		s.touch(c.Gateway.now())
	}
	l.renew(time.Now())
	if err := l.endedOr(nil); err != nil {
		return err
	}
	l.missed.Store(true) // its deadlines may have come nearer: the lot looks again
	c.json(http.StatusOK, api.SessionReply{Session: s.show()})
	return nil
}

// tooMany answers what would end a connection with 4201.
func (c *leaseCall) tooMany() error {
	c.metrics.limits[limitFrames].Inc()
	per := time.Minute / time.Duration(c.limits.FramesPerMinute)
	return &api.Error{Code: api.CodeRateLimited, RetryAfter: max(per, time.Second), Message: "too many requests for this session"}
}

// endedOr returns how the lease ended, when it has; else err.
func (l *lease) endedOr(err error) error {
	if l.session.hasEnded() {
		return l.ended()
	}
	return err
}

// renewToken takes a token that the session has not presented yet for its own, as authorize does.
func (s *session) renewToken(grant *tenant.Grant, now time.Time) error {
	s.mu.Lock()
	known := !grant.Authorized || presented(grant, &s.record)
	s.mu.Unlock()
	if known {
		return nil
	}
	if err := s.adopt(*grant); err != nil {
		if _, told := errors.AsType[*api.Error](err); told {
			return err
		}
		s.gateway.log.Error("a session was not authorized", "session", s.record.ID, "err", err)
		return unavailable("the token cannot be recorded now: try again")
	}
	s.expireAt(grant.TokenExpiresAt, grant.IssuedAt, now)
	return nil
}

// end is DELETE /sessions/{id}. A session that has ended already is ended as well.
func (c *leaseCall) end() error {
	bearer, id, err := c.credentials()
	if err != nil {
		return err
	}
	l, _, err := c.hold(bearer, id)
	_, gone := errors.AsType[*goneError](err)
	switch {
	case gone:
	case err != nil:
		return err
	default:
		defer l.give()
		l.session.end(cause{reason: api.EndClientClosed})
	}
	c.w.Header().Set("X-Request-Id", uuid.NewString())
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
