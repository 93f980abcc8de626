package manage

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// response is a ResponseWriter that remembers what the log and the metrics want to know.
type response struct {
	http.ResponseWriter
	id     string // X-Request-Id
	route  string // pattern; "" = none
	key    string // public id of the key, or "admin"; "" = not authenticated
	status int    // 0 = nothing was answered yet
}

// WriteHeader sends the status.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Hijack hands over the connection, for streams.
func (w *response) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		w.status = http.StatusSwitchingProtocols
	}
	return conn, rw, err
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// recovered answers for a handler that panicked; what it was is for the log alone.
func (a *API) recovered(w *response, r *http.Request, fault any) {
	a.log.LogAttrs(r.Context(), slog.LevelError, "handler panicked", slog.String("requestId", w.id), slog.String("route", w.route),
		slog.Any("fault", fault), slog.String("stack", string(debug.Stack())))
	if w.status == 0 {
		writeError(w, r.URL.Path, api.Errorf(api.CodeInternal, "something went wrong here; the server's log has it under the request id"))
	}
}

// done counts and logs a request that was answered.
func (a *API) done(w *response, r *http.Request, start time.Time) {
	took := time.Since(start)
	a.metrics.request(r.Method, w.route, w.status, took)
	a.log.LogAttrs(r.Context(), slog.LevelInfo, "request", slog.String("requestId", w.id), slog.String("method", method(r.Method)),
		slog.String("route", w.route), slog.Int("status", w.status), slog.Duration("duration", took), slog.String("key", w.key))
}

// method bounds what a caller can put into labels and logs.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}
