package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// StatusError is a request that the server refused. It wraps the *api.Error of the answer, in whichever dialect that came.
type StatusError struct {
	Status    int    // of the HTTP response
	RequestID string // names the request in the server's log; "" when the answer had none
	Err       *api.Error

	ended *LeaseEndedError // what a 410 says of a session; nil otherwise
}

// Error says what the server answered.
func (e *StatusError) Error() string { return fmt.Sprintf("%s (HTTP %d)", e.Err.Error(), e.Status) }

// Unwrap returns the *api.Error.
func (e *StatusError) Unwrap() error { return e.Err }

// EndedError is a session that the server ended for good, or that cannot come back for want of a credential that was not refused.
type EndedError struct {
	Disconnect api.Disconnect
	Cause      *api.Error // the error frame that said which credential or field was refused; nil when there was none
	SameToken  bool       // the server asked for re-authentication, and Token returned a token that it had refused
}

// Error says why the session ended.
func (e *EndedError) Error() string {
	s := fmt.Sprintf("the server ended the session: %d %s", e.Disconnect.Code, e.Disconnect.Reason)
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	if e.SameToken {
		s += "; there was no other token to come back with"
	}
	return s
}

// Unwrap returns the cause, so that api.CodeOf finds it.
func (e *EndedError) Unwrap() error {
	if e.Cause == nil {
		return nil
	}
	return e.Cause
}

// ErrOutOfStep is what Page.Apply returns when a message does not fit the page: the stream has lost something, or was mixed up
// with another. A Watch answers it by taking a fresh page.
var ErrOutOfStep = errors.New("the stream does not fit the page")

// maxAnswer bounds what is read of an answer: 1,000 sessions of the largest kind fit several times.
const maxAnswer = 64 << 20

// refusal turns an answer that is not a success into an error. The body is read, not closed.
func refusal(resp *http.Response) *StatusError {
	var body struct {
		Code    api.Code `json:"code"`
		Message string   `json:"message"`
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a body cut short is judged by what is there
	if json.Unmarshal(raw, &body) != nil || body.Code == "" {
		// Not Rollcall's words: a proxy in between, or another server.
		body.Code, body.Message = api.CodeUnavailable, "the answer is not Rollcall's: "+http.StatusText(resp.StatusCode)
		if resp.StatusCode < http.StatusInternalServerError {
			body.Code = api.CodeNotFound
		}
	}
	return &StatusError{Status: resp.StatusCode, ended: readEnded(raw), RequestID: resp.Header.Get("X-Request-Id"), Err: &api.Error{
		Code: body.Code, Message: body.Message, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now()),
	}}
}

// retryAfter reads both forms of RFC 9110, section 10.2.3; anything else is 0.
func retryAfter(v string, now time.Time) time.Duration {
	v = strings.TrimSpace(v)
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}

// final tells whether asking again cannot help: the request itself was refused, not postponed.
func final(err error) bool {
	refused, ok := errors.AsType[*StatusError](err)
	if !ok {
		return false
	}
	switch refused.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return false
	}
	return refused.Status < http.StatusInternalServerError
}

func wait(err error) time.Duration {
	if refused, ok := errors.AsType[*StatusError](err); ok {
		return refused.Err.RetryAfter
	}
	return 0
}
