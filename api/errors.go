package api

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Code names what went wrong; it is stable, the message beside it is for people.
type Code string

// The codes of the management API (page 2) and of the session protocol (page 3).
const (
	CodeValidation           Code = "validation_error"
	CodeKeyInvalid           Code = "api_key_invalid"
	CodeKeyExpired           Code = "api_key_expired"
	CodeKeyRevoked           Code = "api_key_revoked"
	CodeInsufficientScope    Code = "insufficient_scope"
	CodeApplicationForbidden Code = "application_forbidden"
	CodePlanRestricted       Code = "plan_restricted"
	CodeApplicationNotFound  Code = "application_not_found"
	CodeSessionNotFound      Code = "session_not_found"
	CodeNotFound             Code = "not_found"
	CodeMethodNotAllowed     Code = "method_not_allowed"
	CodeConflict             Code = "conflict"
	CodeBodyTooLarge         Code = "body_too_large"
	CodeUnsupportedMediaType Code = "unsupported_media_type"
	CodeRateLimited          Code = "rate_limited"
	CodeInternal             Code = "internal_error"
	CodeUnavailable          Code = "unavailable"

	CodeTokenInvalid          Code = "token_invalid"
	CodeTokenExpired          Code = "token_expired"
	CodeTokenRevoked          Code = "token_revoked"
	CodeTokenMismatch         Code = "token_mismatch"
	CodePublishableKeyInvalid Code = "publishable_key_invalid"
	CodeClientIDMismatch      Code = "client_id_mismatch"
	CodeApplicationUnknown    Code = "application_unknown"
	CodeApplicationPaused     Code = "application_paused"
	CodeApplicationArchived   Code = "application_archived"
	CodeOriginForbidden       Code = "origin_forbidden"
	CodeQuotaExceeded         Code = "sessions_quota_exceeded"
	CodeSessionEnded          Code = "session_ended"
)

// statuses is the one table of code to HTTP status.
var statuses = map[Code]int{
	CodeValidation:           http.StatusBadRequest,
	CodeKeyInvalid:           http.StatusUnauthorized,
	CodeKeyExpired:           http.StatusUnauthorized,
	CodeKeyRevoked:           http.StatusUnauthorized,
	CodeInsufficientScope:    http.StatusForbidden,
	CodeApplicationForbidden: http.StatusForbidden,
	CodePlanRestricted:       http.StatusForbidden,
	CodeApplicationNotFound:  http.StatusNotFound,
	CodeSessionNotFound:      http.StatusNotFound,
	CodeNotFound:             http.StatusNotFound,
	CodeMethodNotAllowed:     http.StatusMethodNotAllowed,
	CodeConflict:             http.StatusConflict,
	CodeBodyTooLarge:         http.StatusRequestEntityTooLarge,
	CodeUnsupportedMediaType: http.StatusUnsupportedMediaType,
	CodeRateLimited:          http.StatusTooManyRequests,
	CodeInternal:             http.StatusInternalServerError,
	CodeUnavailable:          http.StatusServiceUnavailable,

	CodeTokenInvalid:          http.StatusUnauthorized,
	CodeTokenExpired:          http.StatusUnauthorized,
	CodeTokenRevoked:          http.StatusUnauthorized,
	CodeTokenMismatch:         http.StatusUnauthorized,
	CodePublishableKeyInvalid: http.StatusUnauthorized,
	CodeClientIDMismatch:      http.StatusUnauthorized,
	CodeApplicationUnknown:    http.StatusUnauthorized,
	CodeApplicationPaused:     http.StatusForbidden,
	CodeApplicationArchived:   http.StatusForbidden,
	CodeOriginForbidden:       http.StatusForbidden,
	CodeQuotaExceeded:         http.StatusTooManyRequests,
	CodeSessionEnded:          http.StatusGone,
}

// Status returns the HTTP status of a code; 500 for one that is not in the table.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error is an error that a caller is told: a code, and a message that says what was wrong, where, and what is accepted. It never
// carries internal detail. It is a value: compare codes with CodeOf.
type Error struct {
	Code       Code
	Message    string
	RetryAfter time.Duration // sent as Retry-After, in whole seconds rounded up, when positive
}

// Errorf returns an *Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error returns the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// CodeOf returns the code of the *Error in err's chain; CodeInternal when there is none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// LiveError is the envelope of errors in the Live Sessions dialect.
type LiveError struct {
	Success bool   `json:"success"`
	Code    Code   `json:"code"`
	Message string `json:"message"`
}

// SessionsError is the envelope of errors in the Sessions dialect, which is everything but /wss.
type SessionsError struct {
	Message    string `json:"message"`
	StatusCode int    `json:"statusCode"`
	Code       Code   `json:"code"`
}
