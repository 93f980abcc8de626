package manage

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// call is one request on its way through the checks of page 2: key, validation, scope, application, plan. Nothing is changed before
// the last of them.
type call struct {
	*API
	w   *response
	r   *http.Request
	key tenant.Key // of operations byKey
	// origin is who asks, once that is known. Its ID is that of the one audit record that the call leaves.
	origin tenant.Origin
}

func (c *call) run(op operation) error {
	switch op.access {
	case byKey:
		if err := c.authenticate(); err != nil {
			return err
		}
	case byAdmin:
		if !c.isAdmin() {
			return api.Errorf(api.CodeKeyInvalid, "this route takes the server's admin token: Authorization: Bearer <token>")
		}
		c.w.key = string(tenant.Admin)
		c.origin = c.originOf(api.AuditActor{Type: api.ActorAdmin})
	case byAll:
	}
	return op.do(c)
}

// authenticate finds the key and takes one request out of its allowance. Nothing is remembered of callers without a valid key.
func (c *call) authenticate() error {
	var key tenant.Key
	var err error
	switch headers := c.r.Header.Values("Authorization"); len(headers) {
	case 0:
		key, err = c.signedIn()
	case 1:
		key, err = c.tenants.Authenticate(headers[0], c.address())
	default:
		err = api.Errorf(api.CodeKeyInvalid, "an API key is required, once: Authorization: Bearer <API key>")
	}
	if err != nil {
		return err
	}
	return c.admit(key)
}

// admit takes one request out of the key's allowance.
func (c *call) admit(key tenant.Key) error {
	c.key, c.w.key, c.origin = key, key.PublicID, c.originOf(key.AuditActor())
	if wait := c.rates.take(key.PublicID, c.isStream(), c.limits, time.Now()); wait > 0 {
		c.metrics.limits[limitRequests].Inc()
		what, burst := "make %g requests", c.limits.RequestBurst
		if c.isStream() {
			what, burst = "open %g streams", c.limits.StreamsPerKey
		}
		return &api.Error{Code: api.CodeRateLimited, RetryAfter: wait, Message: fmt.Sprintf(
			"this API key may "+what+" a second (burst %d); try again in %s s", c.limits.RequestsPerSecond, burst, retryAfter(wait))}
	}
	return nil
}

// address returns the client's canonical address: proxies are resolved before.
func (c *call) address() netip.Addr {
	addr, _ := netip.ParseAddr(c.r.RemoteAddr)
	return addr
}

func (c *call) isStream() bool { return c.w.route == api.LivePath && websock.IsUpgrade(c.r) }

func (c *call) isAdmin() bool {
	headers := c.r.Header.Values("Authorization")
	if len(headers) != 1 || c.noAdmin {
		return false
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	sum := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(sum[:], c.admin[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// application makes the checks that follow validation for a route of one application.
func (c *call) application(scope api.Scope, ref string) (tenant.Application, error) {
	if err := c.key.Require(scope); err != nil {
		return tenant.Application{}, err
	}
	return c.tenants.Visible(c.key, ref)
}

// acting returns the context of a change: it must not stop half way because the caller hung up.
func (c *call) acting() (context.Context, context.CancelFunc) {
	const longest = 25 * time.Second // within the server's write timeout
	ctx := tenant.WithOrigin(context.WithoutCancel(c.r.Context()), c.origin)
	return context.WithTimeout(ctx, longest)
}

func (c *call) json(status int, v any) error {
	body, err := encodeJSON(v)
	if err != nil {
		return err
	}
	writeBody(c.w, status, "application/json; charset=utf-8", body)
	return nil
}

// partialStore says in the answer that the database did not answer, and why in the log.
func (c *call) partialStore(err error) {
	c.partial(partialStore)
	c.warn("answered without the store", err)
}

// partial says in the answer what it lacks: "nodes", "store", or both in this order.
func (c *call) partial(what string) {
	if old := c.w.Header().Get("Rollcall-Partial"); old != "" && old != what {
		what = partialNodes + ", " + partialStore
	}
	c.w.Header().Set("Rollcall-Partial", what)
}

// What an answer can lack.
const (
	partialNodes = "nodes"
	partialStore = "store"
)

// partialNodes says so when the rows of some node are not, or not all, here.
func (c *call) partialNodes() {
	if len(c.missing()) > 0 {
		c.partial(partialNodes)
	}
}

func (c *call) warn(what string, err error) {
	c.log.LogAttrs(c.r.Context(), slog.LevelWarn, what, slog.String("requestId", c.w.id), slog.String("error", err.Error()))
}

// refuse answers with an error; detail that the caller is not told goes to the log.
func (c *call) refuse(err error) {
	if api.CodeOf(err) == api.CodeInternal {
		c.log.LogAttrs(c.r.Context(), slog.LevelError, "request failed", slog.String("requestId", c.w.id),
			slog.String("route", c.w.route), slog.String("error", err.Error()))
	}
	c.metrics.refused(api.CodeOf(err))
	if c.w.status == 0 {
		writeError(c.w, c.r.URL.Path, err)
	}
}
