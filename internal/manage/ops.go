package manage

import (
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Readiness is the answer of /readyz.
type Readiness struct {
	Status  string   `json:"status"` // ready, degraded, starting, draining
	Reasons []string `json:"reasons,omitempty"`
}

// Ops serves /healthz, /readyz, /metrics and /debug/pprof. ready is asked at every request.
func Ops(ready func() Readiness, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	for path, handler := range opsTable(ready, metrics) {
		mux.Handle("GET "+path, handler)
	}
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}

// opsTable lists the routes of the ops listener that /openapi.yaml describes.
func opsTable(ready func() Readiness, metrics prometheus.Gatherer) map[string]http.Handler {
	return map[string]http.Handler{
		"/healthz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, Readiness{Status: "ok"})
		}),
		"/readyz": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			state, status := ready(), http.StatusOK
			// Degraded is 200: an orchestrator must not kill what still serves clients (page 2).
			if state.Status == "starting" || state.Status == "draining" {
				status = http.StatusServiceUnavailable
			}
			writeJSON(w, status, state)
		}),
		"/metrics": promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}),
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := encodeJSON(v)
	if err != nil {
		status = http.StatusInternalServerError
	}
	writeBody(w, status, "application/json; charset=utf-8", body)
}
