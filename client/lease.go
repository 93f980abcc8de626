package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// LeaseEndedError is a lease that the server has ended.
type LeaseEndedError struct {
	Reason         api.EndReason
	Reauthenticate bool   // another session needs another token
	Message        string // for people
}

// Error says how it ended.
func (e *LeaseEndedError) Error() string { return e.Message }

// HoldLease holds a session without a connection: it opens one with the configuration's fields, sends heartbeats for as long as ctx
// lives, and ends it then. Token is asked before it opens, when the token is about to expire, and when the server refuses it. OnEvent
// gets an api.LeaseReply when it is open, and a Closed in the end. length is 15 s to an hour; 0 = 90 s.
//
// It returns nil when ctx ended, a *LeaseEndedError when the server has ended the session, a *StatusError when it refused to open
// it. A server that cannot be reached is asked again until it says that the lease has run out. MinBackoff and MaxBackoff bound the
// waits between.
func HoldLease(ctx context.Context, cfg SessionConfig, length time.Duration) error {
	s, err := NewSession(cfg) // checks it, and fills in what was left out
	if err != nil {
		return err
	}
	l := &lease{cfg: s.cfg, hello: s.hello}
	if l.caller, err = newCaller(ManageConfig{URL: cfg.URL, Key: "-", HTTPClient: cfg.HTTPClient}); err != nil {
		return err
	}
	err = l.open(ctx, length)
	if err == nil {
		l.cfg.OnEvent(l.reply)
		err = l.hold(ctx)
	}
	if ctx.Err() != nil {
		err = nil
	}
	l.cfg.OnEvent(Closed{Err: err, Final: true})
	return err
}

// lease is one held by HoldLease.
type lease struct {
	caller
	cfg   SessionConfig
	hello api.Hello
	reply api.LeaseReply
}

// leaseBody is what opens a lease.
type leaseBody struct {
	api.Hello
	LeaseSeconds int `json:"leaseSeconds,omitempty"`
}

func (l *lease) open(ctx context.Context, length time.Duration) error {
	if err := l.present(ctx); err != nil {
		return err
	}
	err := l.call(ctx, http.MethodPost, "sessions", nil, leaseBody{l.hello, int(length.Seconds())}, &l.reply)
	if err == nil && l.reply.HeartbeatSeconds <= 0 {
		err = errors.New("the server's answer does not say how often to send a heartbeat")
	}
	return err
}

// present asks for a credential for the next requests.
func (l *lease) present(ctx context.Context) error {
	l.caller.cfg.Key = l.cfg.PublishableKey
	if l.cfg.Token == nil {
		return nil
	}
	token, err := l.cfg.Token(ctx)
	if err != nil {
		return fmt.Errorf("no session token: %w", err)
	}
	l.caller.cfg.Key = token
	return nil
}

// hold sends heartbeats until the session has ended, or ctx has: then it ends the session.
func (l *lease) hold(ctx context.Context) error {
	path := "sessions/" + l.reply.Session.ID.String()
	every := time.Duration(l.reply.HeartbeatSeconds) * time.Second
	retry := backoff{min: l.cfg.MinBackoff, max: min(l.cfg.MaxBackoff, every)}
	pause := every
	for {
		sleep(ctx, pause)
		if ctx.Err() != nil {
			fresh, cancel := context.WithTimeout(context.WithoutCancel(ctx), byeTimeout)
			defer cancel()
			return l.call(fresh, http.MethodDelete, path, nil, nil, nil)
		}
		if l.expiring(2 * every) {
			_ = l.present(ctx) // the old one is good for now, and it is asked again with the next heartbeat
		}
		var reply api.SessionReply
		err := l.call(ctx, http.MethodPost, path+"/heartbeat", nil, nil, &reply)
		var told *StatusError
		switch {
		case err == nil:
			retry.reset()
			pause, l.reply.Session = every, reply.Session
		case errors.As(err, &told) && told.ended != nil:
			return told.ended
		case errors.As(err, &told) && told.Status == http.StatusNotFound:
			return err
		default: // 401 as well: another token may be there by then, and the server says when it is too late
			if told != nil && told.Status == http.StatusUnauthorized {
				_ = l.present(ctx)
			}
			pause = retry.next(wait(err))
		}
	}
}

// expiring tells whether the session's token expires soon.
func (l *lease) expiring(soon time.Duration) bool {
	expires := l.reply.Session.TokenExpiresAt
	return expires != nil && time.Until(api.Millis(*expires).Time()) < max(soon, time.Minute)
}

// readEnded reads the answer of 410; nil when it is none.
func readEnded(raw []byte) *LeaseEndedError {
	var body api.EndedError
	if _ = json.Unmarshal(raw, &body); body.Code != api.CodeSessionEnded { // what is not JSON has no code
		return nil
	}
	return &LeaseEndedError{Reason: body.Reason, Reauthenticate: body.Reauthenticate, Message: body.Message}
}

// Report reports sessions of one's own clients, up to api.MaxBatchItems at once (sessions:create). With WaitSeconds the call takes as
// long.
func (m *Manage) Report(ctx context.Context, app api.ApplicationID, batch api.LeaseBatch) (api.LeaseBatchReply, error) {
	if batch.Items == nil {
		batch.Items = []api.LeaseItem{}
	}
	return send[api.LeaseBatchReply](ctx, m.caller, http.MethodPost, "applications/"+app.String()+"/leases:batch", batch)
}
