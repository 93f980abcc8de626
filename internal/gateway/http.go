package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// ServeHTTP serves what Serves says: GET /api/v1/connect, and the routes of leases. The request's RemoteAddr is the client's canonical
// address, without a port (proxies are resolved before).
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != api.ConnectPath {
		if escaped := r.URL.EscapedPath(); path.Clean(escaped) != escaped { // ServeMux would redirect
			g.refuseHTTP(w, api.Errorf(api.CodeNotFound, "there is nothing at this path"))
			return
		}
		g.leaseMux.ServeHTTP(w, r)
		return
	}
	g.connect(w, r)
}

// connect returns as soon as the connection is taken over.
func (g *Gateway) connect(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		g.refuseHTTP(w, api.Errorf(api.CodeMethodNotAllowed, "the session protocol begins with a GET that upgrades to a WebSocket"))
		return
	}
	if err := websock.Check(r); err != nil {
		w.Header().Set("Sec-WebSocket-Version", "13") // RFC 6455, section 4.4
		g.refuseHTTP(w, err)
		return
	}
	ip := r.RemoteAddr
	if err := g.admit(ip); err != nil {
		g.refuseHTTP(w, err)
		return
	}
	conn, err := websock.Upgrade(w, r, websock.Config{Subprotocol: api.Subprotocol, MaxMessage: g.limits.MaxFrame})
	if err != nil {
		g.release(ip)
		g.log.Debug("a connection was lost during its upgrade", "err", err)
		return
	}
	s := &session{gateway: g, upgrade: readUpgrade(r), record: store.Record{IP: ip}}
	s.helloBy = momentOf(time.Now().Add(g.limits.HelloTimeout))
	// The request, its handler's stack and the server's buffers are garbage after this.
	g.begin(s, conn)
}

// admit counts a connection in, or says why it may not come.
func (g *Gateway) admit(ip string) error {
	room := g.cfg.Room == nil || g.cfg.Room()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining {
		return &api.Error{Code: api.CodeUnavailable, RetryAfter: time.Second, Message: "this node is draining: connect again"}
	}
	if limit := g.limits.MaxSessions; !room || limit > 0 && g.admitted >= limit {
		g.metrics.limits[limitSessions].Inc()
		return &api.Error{Code: api.CodeUnavailable, RetryAfter: comeBack(),
			Message: "this node holds as many sessions as it can: connect again later"}
	}
	if limit := g.limits.ConnectionsPerAddress; limit > 0 {
		if g.addresses[ip] >= limit {
			g.metrics.limits[limitPerAddress].Inc()
			return &api.Error{Code: api.CodeRateLimited, RetryAfter: comeBack(),
				Message: fmt.Sprintf("at most %d connections an address", limit)}
		}
		g.addresses[ip]++
	}
	g.admitted++
	g.conns.Add(1)
	return nil
}

// comeBack is when a client that found no place may ask again; spread, for it is not alone.
func comeBack() time.Duration { return time.Duration(5+rand.IntN(10)) * time.Second }

// release undoes admit.
func (g *Gateway) release(ip string) {
	g.mu.Lock()
	g.admitted--
	if g.limits.ConnectionsPerAddress > 0 {
		g.leaveLocked(ip)
	}
	g.mu.Unlock()
	g.conns.Done()
}

func (g *Gateway) leaveLocked(ip string) {
	if g.addresses[ip]--; g.addresses[ip] == 0 {
		delete(g.addresses, ip)
	}
}

// join makes the connection known to Drain; one that comes too late for it is told here.
func (g *Gateway) join(s *session) {
	g.mu.Lock()
	g.all[s] = struct{}{}
	draining := g.draining
	g.mu.Unlock()
	if draining {
		s.end(drained(time.Second))
	}
}

// depart undoes admit and join.
func (s *session) depart() {
	g := s.gateway
	g.mu.Lock()
	delete(g.all, s)
	g.mu.Unlock()
	g.release(s.record.IP)
}

// toldError returns what a client may know of err.
func toldError(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	return api.Errorf(api.CodeInternal, "something went wrong here")
}

func (g *Gateway) refuseHTTP(w http.ResponseWriter, err error) {
	e := toldError(err)
	id := uuid.NewString()
	g.metrics.refusals.WithLabelValues(string(e.Code)).Inc()
	g.log.Debug("request refused", "requestId", id, "code", e.Code, "err", err)
	w.Header().Set("X-Request-Id", id)
	body, _ := json.Marshal(api.SessionsError{Message: e.Message, StatusCode: e.Code.Status(), Code: e.Code}) // a struct of strings
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(e.RetryAfter.Seconds()))))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Code.Status())
	_, _ = w.Write(body)
}

func readUpgrade(r *http.Request) *upgrade {
	up := &upgrade{userAgent: strings.ToValidUTF8(r.UserAgent(), ""), origins: r.Header["Origin"]}
	if len(up.userAgent) > api.MaxString {
		up.userAgent = strings.ToValidUTF8(up.userAgent[:api.MaxString], "")
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(token)
		up.bearer = &token
	}
	return up
}
