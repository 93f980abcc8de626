package manage

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// toldError returns what a caller may know of err: an *api.Error as it is, everything else internal_error without detail.
func toldError(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	return api.Errorf(api.CodeInternal, "something went wrong here; the server's log has it under the request id")
}

// envelope is an error in the dialect of the path.
func envelope(path string, e *api.Error) any {
	if path == livePrefix || strings.HasPrefix(path, livePrefix+"/") {
		return api.LiveError{Code: e.Code, Message: e.Message}
	}
	return api.SessionsError{Message: e.Message, StatusCode: e.Code.Status(), Code: e.Code}
}

const livePrefix = api.RoutePrefix + "/wss"

func writeError(w http.ResponseWriter, path string, err error) {
	e := toldError(err)
	status := e.Code.Status()
	if e.RetryAfter > 0 {
		w.Header().Set("Retry-After", retryAfter(e.RetryAfter))
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer") // RFC 9110, section 11.6.1
	}
	body, err := encodeJSON(envelope(path, e))
	if err != nil {
		status = http.StatusInternalServerError
	}
	writeBody(w, status, "application/json; charset=utf-8", body)
}

// retryAfter is RFC 9110, section 10.2.3: whole seconds, rounded up.
func retryAfter(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

// encodeJSON writes v as it is: "<" stays "<", for no answer of this API is HTML.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return b.Bytes(), err
}

func writeBody(w http.ResponseWriter, status int, contentType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone, and there is nobody to tell
}
