package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// ManageConfig configures Manage and Admin.
type ManageConfig struct {
	URL        string       // of the server, such as https://rollcall.example.com; a path is kept as a prefix
	Key        string       // an API key for Manage, the server's admin token for Admin
	HTTPClient *http.Client // nil = http.DefaultClient. Its Timeout bounds calls; watches live on
	// OnPartial is told what is missing when an answer does not show everything (nodes, store); nil = nothing is.
	OnPartial func(missing string)
}

// Manage calls the management API with an API key.
type Manage struct{ caller }

// NewManage checks the configuration. Nothing is sent.
func NewManage(cfg ManageConfig) (*Manage, error) {
	c, err := newCaller(cfg)
	return &Manage{c}, err
}

// caller makes HTTP calls. It holds nothing that changes.
type caller struct {
	base *url.URL
	cfg  ManageConfig
}

func newCaller(cfg ManageConfig) (caller, error) {
	base, err := baseURL(cfg.URL)
	if err != nil {
		return caller{}, err
	}
	if cfg.Key == "" {
		return caller{}, errors.New("calling the management API needs a key")
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = http.DefaultClient
	}
	return caller{base: base, cfg: cfg}, nil
}

func (c caller) url(path string, query url.Values) string {
	u := c.base.JoinPath(api.RoutePrefix, path)
	u.RawQuery = query.Encode()
	return u.String()
}

func (c caller) header() http.Header {
	return http.Header{"Authorization": {"Bearer " + c.cfg.Key}}
}

// call sends a request and reads the answer into out. in and out may be nil.
func (c caller) call(ctx context.Context, method, path string, query url.Values, in, out any) error {
	_, err := c.exchange(ctx, method, path, query, in, out)
	return err
}

// exchange is call, and returns the answer's header.
func (c caller) exchange(ctx context.Context, method, path string, query url.Values, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url(path, query), body)
	if err != nil {
		return nil, err
	}
	req.Header = c.header()
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.cfg.HTTPClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("calling the server: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < http.StatusOK || resp.StatusCode >= http.StatusMultipleChoices {
		return nil, refusal(resp)
	}
	if missing := resp.Header.Get("Rollcall-Partial"); missing != "" && c.cfg.OnPartial != nil {
		c.cfg.OnPartial(missing)
	}
	if out == nil {
		return resp.Header, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(out); err != nil {
		return nil, fmt.Errorf("the server's answer to %s %s is not what was expected: %w", method, req.URL.Path, err)
	}
	return resp.Header, nil
}

// get calls with GET and returns the answer.
func get[T any](ctx context.Context, c caller, path string, query url.Values) (out T, err error) {
	err = c.call(ctx, http.MethodGet, path, query, nil, &out)
	return out, err
}

// send calls with another method, and returns the answer.
func send[T any](ctx context.Context, c caller, method, path string, in any) (out T, err error) {
	err = c.call(ctx, method, path, nil, in, &out)
	return out, err
}

// Limits returns what the organization's plan allows and how much of it is used (account:read).
func (m *Manage) Limits(ctx context.Context) (api.AccountLimits, error) {
	return get[api.AccountLimits](ctx, m.caller, "account/limits", nil)
}

// IssueToken returns a session token that Rollcall signed (sessions:create).
func (m *Manage) IssueToken(ctx context.Context, app api.ApplicationID, in api.TokenInput) (api.TokenReply, error) {
	return send[api.TokenReply](ctx, m.caller, http.MethodPost, "applications/"+app.String()+"/session-tokens", in)
}

// AuditQuery says which audit records to list. The zero value lists all, newest first.
type AuditQuery struct {
	Actions     []api.AuditAction // none = all
	Application api.ApplicationID // zero = all, and what concerns none
	From, To    time.Time         // at or after From, before To; zero = whenever
	Limit       int               // of one answer, 1 to 1000; 0 = 100
	Cursor      string            // NextCursor of the answer before; "" = from the newest
}

func (q AuditQuery) values() url.Values {
	v := url.Values{}
	for _, action := range q.Actions {
		v.Add("action", string(action))
	}
	if !q.Application.IsZero() {
		v.Set("applicationId", q.Application.String())
	}
	setTime(v, "from", q.From)
	setTime(v, "to", q.To)
	if q.Limit != 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.Cursor != "" {
		v.Set("cursor", q.Cursor)
	}
	return v
}

// Audit returns one answer of the list of audit records, newest first (audit:read).
func (m *Manage) Audit(ctx context.Context, q AuditQuery) (api.AuditList, error) {
	return get[api.AuditList](ctx, m.caller, "audit", q.values())
}

// Applications returns the applications that the key may see (applications:read).
func (m *Manage) Applications(ctx context.Context) ([]api.Application, error) {
	list, err := get[api.ApplicationList](ctx, m.caller, "applications", nil)
	return list.Items, err
}

// Application returns one application with its session counts (applications:read).
func (m *Manage) Application(ctx context.Context, app api.ApplicationID) (api.Application, error) {
	return get[api.Application](ctx, m.caller, "applications/"+app.String(), nil)
}

// ApplicationInput creates or changes an application; nil fields stay as they are, or get the server's default. ID, Number and
// PublishableKey are the admin's to give: they are unique over all organizations, so a conflict would tell one of another.
type ApplicationInput struct {
	ID               *api.ApplicationID    `json:"id,omitempty"`     // at creation
	Number           *string               `json:"number,omitempty"` // at creation
	Name             *string               `json:"name,omitempty"`
	State            *api.ApplicationState `json:"state,omitempty"` // active or paused
	PublishableKey   *string               `json:"publishableKey,omitempty"`
	IdleAfter        *api.Duration         `json:"idleAfter,omitempty"`
	AllowedOrigins   *[]string             `json:"allowedOrigins,omitempty"`
	StrictRevocation *bool                 `json:"strictRevocation,omitempty"`
	Tokens           *TokensInput          `json:"tokens,omitempty"`
}

// TokensInput says how an application's own session tokens are verified: by HS256Secret, or by the keys at JWKSURL.
type TokensInput struct {
	HS256Secret string `json:"hs256Secret,omitempty"` // at least 32 bytes
	JWKSURL     string `json:"jwksUrl,omitempty"`
	Issuer      string `json:"issuer,omitempty"`
	Audience    string `json:"audience,omitempty"`
}

// CreateApplication creates an application (applications:write).
func (m *Manage) CreateApplication(ctx context.Context, in ApplicationInput) (api.Application, error) {
	return send[api.Application](ctx, m.caller, http.MethodPost, "applications", in)
}

// PatchApplication changes an application (applications:write). State paused ends its sessions.
func (m *Manage) PatchApplication(ctx context.Context, app api.ApplicationID, in ApplicationInput) (api.Application, error) {
	return send[api.Application](ctx, m.caller, http.MethodPatch, "applications/"+app.String(), in)
}

// ArchiveApplication archives an application, which ends its sessions, revokes their tokens and is final (applications:write).
func (m *Manage) ArchiveApplication(ctx context.Context, app api.ApplicationID) error {
	return m.call(ctx, http.MethodDelete, "applications/"+app.String(), nil, nil, nil)
}
