package gateway

import (
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/limit"
)

// metrics are the gateway's numbers.
type metrics struct {
	opened   *prometheus.CounterVec // by authorized
	ended    *prometheus.CounterVec // by reason
	refusals *prometheus.CounterVec // by code
	frames   *prometheus.CounterVec // by type
	hello    prometheus.Histogram
	adopted  prometheus.Counter
	limits   map[string]prometheus.Counter // what limits refused, by limit
}

// Limits by the names of their flags.
const (
	limitSessions     = "max-sessions"
	limitPerAddress   = "connections-per-address"
	limitHellos       = "hellos-in-flight"
	limitHelloTimeout = "hello-timeout"
	limitPongTimeout  = "pong-timeout"
	limitFrames       = "frames-per-minute"
	limitFrameSize    = "max-frame"
	limitLeases       = "max-leases"
	limitEvents       = "event-streams"
)

func registerLimits(to prometheus.Registerer, l Limits) map[string]prometheus.Counter {
	counters := map[string]prometheus.Counter{}
	for name, value := range map[string]float64{
		limitSessions: float64(l.MaxSessions), limitPerAddress: float64(l.ConnectionsPerAddress),
		limitHellos: float64(l.HellosInFlight), limitHelloTimeout: l.HelloTimeout.Seconds(), limitPongTimeout: l.PongTimeout.Seconds(),
		limitFrames: float64(l.FramesPerMinute), limitFrameSize: float64(l.MaxFrame),
		limitLeases: float64(l.MaxLeases), limitEvents: float64(l.EventStreams),
	} {
		counters[name] = limit.Register(to, name, value)
	}
	return counters
}

// limited counts an end that a limit made.
func (m *metrics) limited(c cause) {
	switch {
	case c.limit != "":
		m.limits[c.limit].Inc()
	case c.close == api.CloseHelloTimeout:
		m.limits[limitHelloTimeout].Inc()
	case c.close == api.CloseTooManyFrames:
		m.limits[limitFrames].Inc()
	case c.close == api.CloseTooBig:
		m.limits[limitFrameSize].Inc()
	case c.reason == api.EndPingTimeout:
		m.limits[limitPongTimeout].Inc()
	}
}

func newMetrics(to prometheus.Registerer, g *Gateway) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		opened: counter("rollcall_sessions_opened_total", "Sessions opened, authorized or not at their hello.", "authorized"),
		ended:  counter("rollcall_sessions_ended_total", "Sessions ended, by reason.", "reason"),
		refusals: counter("rollcall_gateway_refusals_total",
			"Connections that ended without becoming a session, by error code or close code.", "code"),
		frames: counter("rollcall_gateway_frames_total", "Frames received, by type.", "type"),
		hello: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "rollcall_gateway_hello_seconds", Help: "From a hello to its welcome.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}),
	}
	m.adopted = prometheus.NewCounter(prometheus.CounterOpts{Name: "rollcall_leases_adopted_total",
		Help: "Leases that were taken over from a node, or an earlier life of this one, that held them before."})
	m.limits = registerLimits(to, g.limits)
	if to != nil {
		to.MustRegister(m.adopted, m.opened, m.ended, m.refusals, m.frames, m.hello, &census{g,
			prometheus.NewDesc("rollcall_sessions", "Live sessions of this node, by their application's state.",
				[]string{"application_state", "authorized"}, nil),
			prometheus.NewDesc("rollcall_gateway_connections",
				"Open client connections, those before their hello included.", nil, nil),
			prometheus.NewDesc("rollcall_gateway_hellos_in_flight", "Hellos being verified and recorded.", nil, nil),
			prometheus.NewDesc("rollcall_gateway_hellos_waiting", "Hellos that wait because as many as may be are in flight.", nil, nil),
			prometheus.NewDesc("rollcall_gateway_leases", "Leases held, and those that ended in the last minute.", nil, nil),
			prometheus.NewDesc("rollcall_gateway_event_streams", "Open event streams of leases.", nil, nil),
		})
	}
	return m
}

func (m *metrics) open(authorized bool) {
	m.opened.WithLabelValues(strconv.FormatBool(authorized)).Inc()
}

// frame counts a frame. Types are the client's own words, so only those of the protocol become labels.
func (m *metrics) frame(kind string) {
	switch kind {
	case api.TypeHello, api.TypeAuthorize, api.TypeUpdate, api.TypeActivity, api.TypeBye, "ping":
	default:
		kind = "unknown"
	}
	m.frames.WithLabelValues(kind).Inc()
}

// refused counts a connection that ended before it was a session and returns the code that it was told, "" for one that the client
// gave up.
func (m *metrics) refused(c cause) (code string) {
	switch {
	case c.refusal != nil:
		code = string(c.refusal.Code)
	case c.close != 0 && !c.quiet:
		code = strconv.Itoa(int(c.close))
	default:
		return ""
	}
	m.refusals.WithLabelValues(code).Inc()
	return code
}

// census counts sessions when it is asked. Sessions of an application that is not active are about to end: more than a passing
// few of them are worth an alert.
type census struct {
	gateway               *Gateway
	sessions, connections *prometheus.Desc
	hellos, waiting       *prometheus.Desc
	leases, events        *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *census) Describe(to chan<- *prometheus.Desc) {
	to <- c.sessions
	to <- c.connections
	to <- c.hellos
	to <- c.waiting
	to <- c.leases
	to <- c.events
}

// Collect implements prometheus.Collector.
func (c *census) Collect(to chan<- prometheus.Metric) {
	type group struct {
		application api.ApplicationID
		authorized  bool
	}
	all := c.gateway.connections()
	groups := map[group]int{}
	leases := c.gateway.leaseSessions()
	for _, s := range slices.Concat(all, leases) {
		s.mu.Lock()
		if s.live && s.told == nil {
			groups[group{s.record.Application, s.record.Authorized}]++
		}
		s.mu.Unlock()
	}
	type labels struct {
		state      api.ApplicationState
		authorized bool
	}
	counts := map[labels]int{}
	for _, state := range []api.ApplicationState{api.ApplicationActive, api.ApplicationPaused, api.ApplicationArchived} {
		counts[labels{state, true}], counts[labels{state, false}] = 0, 0
	}
	for g, n := range groups {
		app, _ := c.gateway.cfg.Tenants.Application(g.application)
		counts[labels{app.State, g.authorized}] += n
	}
	for l, n := range counts {
		to <- prometheus.MustNewConstMetric(c.sessions, prometheus.GaugeValue, float64(n), string(l.state),
			strconv.FormatBool(l.authorized))
	}
	to <- prometheus.MustNewConstMetric(c.connections, prometheus.GaugeValue, float64(len(all)))
	to <- prometheus.MustNewConstMetric(c.leases, prometheus.GaugeValue, float64(len(leases)))
	to <- prometheus.MustNewConstMetric(c.events, prometheus.GaugeValue, float64(c.gateway.EventStreams()))
	to <- prometheus.MustNewConstMetric(c.hellos, prometheus.GaugeValue, float64(len(c.gateway.hellos)))
	to <- prometheus.MustNewConstMetric(c.waiting, prometheus.GaugeValue, float64(c.gateway.waiting.Load()+int64(c.gateway.lot.inLine(lineHello))))
}
