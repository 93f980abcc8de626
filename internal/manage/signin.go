package manage

import (
	"net/http"
	"strings"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// signIn is POST /sign-in: a key for a cookie that stands for it. A page of another origin cannot sign its visitor in.
func (c *call) signIn() error {
	if c.r.Header.Get("Origin") != "" {
		if err := c.ownOrigin(); err != nil {
			return err
		}
	}
	o, err := c.readBody()
	if err != nil {
		return err
	}
	plaintext := o.String("key")
	if err := o.Done(); err != nil {
		return err
	}
	if plaintext == nil {
		return api.Errorf(api.CodeValidation, "key is required and must be a string: an API key")
	}
	key, err := c.tenants.Authenticate("Bearer "+*plaintext, c.address())
	if err != nil {
		return err
	}
	if err := c.admit(key); err != nil {
		return err
	}
	credential, key := c.tenants.SignIn(key)
	if err := c.auditSignIn(key, api.ActionSignIn); err != nil {
		return api.Errorf(api.CodeUnavailable, "the audit record of the sign-in cannot be kept now: try again")
	}
	c.setCookie(credential, int(c.tenants.SignInAge(key).Seconds()))
	return c.json(http.StatusOK, c.tenants.SignInAPI(key))
}

// whoIs is GET /sign-in.
func (c *call) whoIs() error { return c.json(http.StatusOK, c.tenants.SignInAPI(c.key)) }

// signOut is DELETE /sign-in. Who is not signed in, or whose key is no good any more, is signed out all the same.
func (c *call) signOut() error {
	cookies := c.r.CookiesNamed(api.SignInCookie)
	if len(cookies) > 0 {
		if err := c.ownOrigin(); err != nil {
			return err
		}
	}
	c.setCookie("", -1)
	for _, cookie := range cookies {
		key, err := c.tenants.SignOut(c.r.Context(), cookie.Value)
		if key.PublicID != "" {
			c.w.key = key.PublicID
			_ = c.auditSignIn(key, api.ActionSignOut) // was said in the log; nobody stays signed in for it
		}
		if err != nil {
			return err
		}
	}
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// signedIn finds the key of a request without Authorization by its cookie. A browser sends cookies whoever wrote the page: what
// changes something, and streams, which no same-origin policy guards, must come from a page of this server.
func (c *call) signedIn() (tenant.Key, error) {
	err := error(api.Errorf(api.CodeKeyInvalid, "an API key is required, once: Authorization: Bearer <API key>"))
	for _, cookie := range c.r.CookiesNamed(api.SignInCookie) {
		var key tenant.Key
		if key, err = c.tenants.SignedIn(cookie.Value, c.address()); err != nil {
			continue
		}
		if c.r.Method != http.MethodGet && c.r.Method != http.MethodHead || c.isStream() {
			err = c.ownOrigin()
		}
		return key, err
	}
	return tenant.Key{}, err
}

// ownOrigin refuses a request that no page of this server has made.
func (c *call) ownOrigin() error {
	origins := c.r.Header.Values("Origin")
	if len(origins) != 1 || !strings.EqualFold(origins[0], c.pageOrigin()) {
		return api.Errorf(api.CodeOriginForbidden, "with a cookie this takes an Origin equal to the server's own")
	}
	return nil
}

// pageOrigin is that of a page of this server, as a browser writes it: without the scheme's default port (RFC 6454, section 6.1).
func (c *call) pageOrigin() string {
	if c.secure() {
		return "https://" + strings.TrimSuffix(c.r.Host, ":443")
	}
	return "http://" + strings.TrimSuffix(c.r.Host, ":80")
}

// secure tells whether the client used TLS; that of a trusted proxy was resolved before.
func (c *call) secure() bool { return c.r.TLS != nil || c.r.URL.Scheme == "https" }

// setCookie sets the sign-in's cookie; age is in seconds, negative to clear it.
func (c *call) setCookie(value string, age int) {
	//nolint:gosec // Secure where it can be: a server without TLS, on loopback or behind a private network, takes sign-ins too
	http.SetCookie(c.w, &http.Cookie{Name: api.SignInCookie, Value: value, Path: "/", MaxAge: age, HttpOnly: true,
		SameSite: http.SameSiteStrictMode, Secure: c.secure()})
}

// auditSignIn leaves the record of a sign-in or sign-out with the key.
func (c *call) auditSignIn(key tenant.Key, action api.AuditAction) error {
	record := c.originOf(key.AuditActor()).Record(key.Organization, action)
	record.Time = api.Timestamp(c.now())
	ctx, cancel := c.acting()
	defer cancel()
	err := c.records.Audit(ctx, record)
	if err != nil {
		c.warn("there is no room for an audit record", err)
	}
	return err
}
