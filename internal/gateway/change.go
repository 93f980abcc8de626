package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// authorize authorizes the session, or renews its token. What it answers is in the record before (G6).
func (s *session) authorize(f *frame, now time.Time) {
	token := f.Credential("token")
	f.Require("token")
	if s.answerProblem(f) {
		return
	}
	s.renew(*token, now, question{})
}

func (s *session) renew(token string, now time.Time, q question) {
	grant, err := s.verifyRenewal(token, q.presented)
	if s.postpone(q, err, func(q question) { s.renew(token, now, q) }) {
		return
	}
	if err == nil {
		err = s.adopt(grant)
	}
	var told *api.Error
	switch {
	case err == nil:
		s.expireAt(grant.TokenExpiresAt, grant.IssuedAt, now)
		s.send(websock.AppendText(nil, s.tokenNotice(api.TypeAuthorized)))
	case errors.As(err, &told):
		s.refuse(told)
	default:
		s.gateway.log.Error("a session was not authorized", "session", s.record.ID, "err", err)
		s.refuse(api.Errorf(api.CodeUnavailable, "the token cannot be judged or recorded now: try again"))
	}
}

// verifyRenewal judges a token for this session's application. A token that names an application is judged as that one's, so that
// one of another application is a mismatch; one that names none, as ours.
func (s *session) verifyRenewal(token string, presented time.Time) (tenant.Grant, error) {
	if token == "" {
		return tenant.Grant{}, api.Errorf(api.CodeTokenInvalid, "the token is empty")
	}
	tenants, app := s.gateway.cfg.Tenants, s.application()
	grant, err := tenants.Verify(context.Background(), tenant.Credential{Token: token, Presented: presented})
	if api.CodeOf(err) == api.CodeApplicationUnknown {
		grant, err = tenants.Verify(context.Background(), tenant.Credential{Token: token, Application: app.String(),
			Presented: presented})
	}
	if err == nil && grant.Application.ID != app {
		err = api.Errorf(api.CodeTokenMismatch, "the token is for another application than the session")
	}
	return grant, err
}

// adopt makes the grant the session's, in the registry and in the record.
func (s *session) adopt(grant tenant.Grant) error {
	s.mu.Lock()
	s.tokens = appendToken(unexpired(s.tokens, s.gateway.now()), grant)
	before, credential, cid := s.record, s.credential, s.cid
	switch {
	case s.told != nil:
		s.mu.Unlock()
		return errEnded()
	case len(s.tokens) > maxTokens:
		s.mu.Unlock()
		return api.Errorf(api.CodeRateLimited, "the session has presented %d tokens that have not expired", maxTokens)
	case s.record.Authorized && (s.record.Login != grant.Login || s.cid != grant.ClientID):
		s.mu.Unlock()
		return api.Errorf(api.CodeTokenMismatch, "the token's sub or cid is not that of the session's token")
	}
	s.applyLocked(grant)
	after := s.record
	err := s.gateway.cfg.Registry.Update(s.rowLocked(), grant.Application.MaxAuthorized())
	if err != nil {
		s.record, s.credential, s.cid = before, credential, cid
		s.mu.Unlock()
		return s.gateway.registryError(err)
	}
	s.mu.Unlock()

	if err := s.gateway.cfg.Records.Change(context.Background(), after); err != nil { // it waits for half a second at most
		s.restore(func() { s.record, s.credential, s.cid = before, credential, cid })
		return err
	}
	return nil
}

func (s *session) applyLocked(grant tenant.Grant) {
	r := &s.record
	if l := s.lease(); l != nil && (r.License != grant.License || grant.ClientID != "" && r.ClientID != grant.ClientID) {
		l.found = s.gateway.now()
	}
	r.Authorized, r.TokenExpiresAt, r.Login, r.License = true, grant.TokenExpiresAt, grant.Login, grant.License
	if grant.ClientID != "" {
		r.ClientID = grant.ClientID
	}
	if !s.named && grant.Name != "" {
		r.Name = grant.Name
	}
	s.credential, s.cid = credentialOf(grant), grant.ClientID
	s.noteLeaseLocked()
}

// restore undoes a change that could not be recorded, unless the session has ended: the row must not say what the record does not.
func (s *session) restore(undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told != nil {
		return
	}
	undo()
	// A row that goes back to less is within every quota; what refuses it is about to end the session.
	_ = s.gateway.cfg.Registry.Update(s.rowLocked(), registry.Unlimited)
}

// update changes what is shown. It is not answered; it is in the record when the next frame is.
func (s *session) update(f *frame) {
	name, hostname, clientInfo := f.Text("name"), f.Text("hostname"), f.ClientInfo("clientInfo")
	if s.answerProblem(f) {
		return
	}
	if err := s.change(name, hostname, clientInfo); err != nil {
		s.refuse(toldError(err))
	}
}

// change changes what is shown, and returns when that is recorded; nil leaves as it is.
func (s *session) change(name, hostname *string, clientInfo json.RawMessage) error {
	if name == nil && hostname == nil && clientInfo == nil {
		return nil
	}
	s.mu.Lock()
	if s.told != nil {
		s.mu.Unlock()
		return nil
	}
	if name != nil {
		s.record.Name, s.named = *name, *name != ""
	}
	if hostname != nil {
		s.record.Hostname = *hostname
	}
	if clientInfo != nil {
		s.record.ClientInfo = clientInfo
	}
	s.noteLeaseLocked()
	record := s.record
	s.mu.Unlock()
	if err := s.gateway.cfg.Records.Change(context.Background(), record); err != nil {
		s.gateway.log.Error("an update was not recorded", "session", record.ID, "err", err)
		return api.Errorf(api.CodeUnavailable, "the update cannot be recorded now: try again")
	}
	return nil
}
