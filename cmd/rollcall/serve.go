package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/mcp"
)

// flagDefaults shows the limits of package api in --help without writing them twice.
var flagDefaults = kong.Vars{
	"helloTimeout":      api.HelloTimeout.String(),
	"pingInterval":      api.PingInterval.String(),
	"pongTimeout":       api.PongTimeout.String(),
	"expiryNotice":      api.ExpiryNotice.String(),
	"expiryGrace":       api.ExpiryGrace.String(),
	"framesPerMinute":   strconv.Itoa(api.FramesPerMinute),
	"frameBurst":        strconv.Itoa(api.FrameBurst),
	"streamsPerKey":     strconv.Itoa(api.MaxStreamsPerKey),
	"requestsPerSecond": strconv.Itoa(api.RequestsPerSecond),
	"requestBurst":      strconv.Itoa(api.RequestBurst),
	"hellosInFlight":    strconv.Itoa(gateway.DefaultHellosInFlight),
	"maxLeases":         strconv.Itoa(gateway.DefaultMaxLeases),
	"eventStreams":      strconv.Itoa(gateway.DefaultEventStreams),
	"streamPing":        manage.DefaultStreamPing.String(),
	"streamIdle":        manage.DefaultStreamIdle.String(),
	"maxFrame":          strconv.Itoa(api.MaxFrame),
	"maxBody":           strconv.Itoa(api.MaxBody),
	"mcpLease":          mcp.DefaultLease.String(),
	"mcpOpenWait":       mcp.DefaultOpenWait.String(),
	"mcpMaxSessions":    strconv.Itoa(mcp.DefaultMaxSessions),
}

type serveCmd struct {
	Data     string `default:"./rollcall-data" placeholder:"DIR" help:"Data directory: SQLite file, server key, admin token (${default})."`
	LogLevel string `enum:"debug,info,warn,error" default:"info" help:"Least severe log lines: ${enum}."`
	serveFlags
}

// serveFlags are the flags of serve, and of what runs a server as part of its job.
type serveFlags struct {
	Listen         string        `default:"127.0.0.1:8080" placeholder:"ADDR" help:"API and session protocol; port 0 picks a free one (${default})."`
	OpsListen      string        `default:"127.0.0.1:9090" placeholder:"ADDR" help:"/healthz /readyz /metrics /debug/pprof; \"\" turns it off (${default})."`
	Database       string        `placeholder:"URL" help:"sqlite:FILE, or postgres://user:password@host:5432/name for a server that several nodes share; default: rollcall.db in the data directory."`
	Node           string        `placeholder:"NAME" help:"Name of this node, such as srv-01; default: the host name."`
	Bootstrap      string        `placeholder:"FILE" help:"YAML file with organizations, applications and keys to create or update at start."`
	AdminToken     string        `placeholder:"TOKEN" help:"Admin token; default: the one in the data directory, made when missing."`
	TLSCert        string        `name:"tls-cert" placeholder:"FILE" help:"PEM certificate chain: serve TLS."`
	TLSKey         string        `name:"tls-key" placeholder:"FILE" help:"PEM key of --tls-cert."`
	TrustedProxies []string      `placeholder:"CIDR,…" help:"Peers whose X-Forwarded-For or Forwarded header names the client."`
	Drain          time.Duration `default:"20s" help:"How long a clean stop may take."`
	DrainDelay     time.Duration `default:"0s" help:"Between failing /readyz and refusing connections, for balancers to notice."`
	LogFormat      string        `enum:"text,json" default:"text" help:"Log lines on stderr: ${enum}."`

	Limits  limitFlags   `embed:"" group:"Limits"`
	Cluster clusterFlags `embed:"" group:"Cluster"`
}

// clusterFlags join the node to others.
type clusterFlags struct {
	NATS            string `name:"nats" placeholder:"URL,…" help:"NATS servers that connect the nodes: nats://, tls://, ws:// or wss://; user:password@ or token@ in the URL shows in the process list, not so in the environment."`
	NATSCredentials string `name:"nats-credentials" placeholder:"FILE" help:"File with a JWT and an NKey seed for --nats."`
	NATSToken       string `name:"nats-token" placeholder:"TOKEN" help:"Token for --nats."`
	ClusterListen   string `placeholder:"ADDR" help:"Instead of --nats: the nodes connect to each other; host:port where this one listens for the others. Never for clients."`
	ClusterPeers    string `placeholder:"ADDR,…" help:"host:port of other nodes, where they listen (--cluster-listen). One that runs is enough; this node may be among them."`
	ClusterSecret   string `placeholder:"SECRET" help:"Lets nodes into the cluster of --cluster-listen; 16 bytes at least, the same on all. Best given in the environment."`
	ClusterName     string `default:"rollcall" placeholder:"NAME" help:"The same on all nodes; clusters of different names never meet, even on the same NATS (${default})."`
	ClusterTLSCert  string `name:"cluster-tls-cert" placeholder:"FILE" help:"PEM certificate of this node for connections between nodes, or to --nats."`
	ClusterTLSKey   string `name:"cluster-tls-key" placeholder:"FILE" help:"PEM key of --cluster-tls-cert."`
	ClusterTLSCA    string `name:"cluster-tls-ca" placeholder:"FILE" help:"PEM certificates that sign those of the other nodes, or of --nats."`
}

func (f clusterFlags) config() server.ClusterConfig {
	return server.ClusterConfig{
		NATS: f.NATS, Credentials: f.NATSCredentials, Token: f.NATSToken,
		Listen: f.ClusterListen, Peers: f.ClusterPeers, Secret: f.ClusterSecret, Name: f.ClusterName,
		TLSCert: f.ClusterTLSCert, TLSKey: f.ClusterTLSKey, TLSCA: f.ClusterTLSCA,
	}
}

// limitFlags are the limits of pages 2 and 3, and the timing of page 3. Each has a field of the same name in gateway.Limits or
// manage.Limits, and a line in docs/limits.md.
type limitFlags struct {
	MaxSessions           int           `default:"0" help:"Session connections at once; 0 is as many as the file descriptors allow."`
	ConnectionsPerAddress int           `default:"0" help:"Of sessions; 0 is unlimited."`
	HellosInFlight        int           `default:"${hellosInFlight}" help:"Being verified at once; more wait (${default})."`
	HelloTimeout          time.Duration `default:"${helloTimeout}" help:"For a client's first frame (${default})."`
	PingInterval          time.Duration `default:"${pingInterval}" help:"Between pings of a session (${default})."`
	PongTimeout           time.Duration `default:"${pongTimeout}" help:"For a client to answer a ping (${default})."`
	ExpiryNotice          time.Duration `default:"${expiryNotice}" help:"Of token_expiring before the expiry (${default})."`
	ExpiryGrace           time.Duration `default:"${expiryGrace}" help:"From a token's expiry to the session's end (${default})."`
	FramesPerMinute       int           `default:"${framesPerMinute}" help:"Of a session (${default})."`
	FrameBurst            int           `default:"${frameBurst}" help:"Of a session (${default})."`
	MaxFrame              int           `default:"${maxFrame}" placeholder:"BYTES" help:"Of a session's message (${default})."`
	MaxLeases             int           `default:"${maxLeases}" help:"Sessions without a connection at once (${default})."`
	EventStreams          int           `default:"${eventStreams}" help:"Of leases, open at once (${default})."`
	StreamsPerKey         int           `default:"${streamsPerKey}" help:"Open live streams of an API key (${default})."`
	StreamPing            time.Duration `default:"${streamPing}" help:"Between pings of a live stream (${default})."`
	StreamIdle            time.Duration `default:"${streamIdle}" help:"Of a live stream without a pong or write progress (${default})."`
	RequestsPerSecond     float64       `default:"${requestsPerSecond}" help:"Management requests of an API key (${default})."`
	RequestBurst          int           `default:"${requestBurst}" help:"Management requests of an API key (${default})."`
	MaxBody               int           `default:"${maxBody}" placeholder:"BYTES" help:"Of a management request (${default})."`
}

// Validate refuses numbers that would quietly mean the default, that no node can honour, or that are slips.
func (f serveFlags) Validate() error {
	l := f.Limits
	const most, longest, bytes = 1_000_000_000, 24 * time.Hour, 16 << 20
	for _, err := range []error{
		within("max-sessions", l.MaxSessions, 0, most), within("connections-per-address", l.ConnectionsPerAddress, 0, most),
		within("hellos-in-flight", l.HellosInFlight, 1, 1_000_000), within("hello-timeout", l.HelloTimeout, time.Millisecond, longest),
		within("ping-interval", l.PingInterval, time.Millisecond, longest), within("pong-timeout", l.PongTimeout, time.Millisecond, longest),
		within("expiry-notice", l.ExpiryNotice, time.Millisecond, longest), within("expiry-grace", l.ExpiryGrace, time.Millisecond, longest),
		within("frames-per-minute", l.FramesPerMinute, 1, most), within("frame-burst", l.FrameBurst, 1, most),
		within("max-leases", l.MaxLeases, 1, most), within("event-streams", l.EventStreams, 1, most),
		within("max-frame", l.MaxFrame, 1, bytes), within("max-body", l.MaxBody, 1, bytes),
		within("streams-per-key", l.StreamsPerKey, 1, most), within("stream-ping", l.StreamPing, time.Millisecond, longest),
		within("stream-idle", l.StreamIdle, time.Millisecond, longest), within("requests-per-second", l.RequestsPerSecond, 0.001, most),
		within("request-burst", l.RequestBurst, 1, most), within("drain", f.Drain, time.Millisecond, longest),
	} {
		if err != nil {
			return err
		}
	}
	if l.StreamIdle <= l.StreamPing {
		return fmt.Errorf("--stream-idle (%s) must be longer than --stream-ping (%s): a stream is kept alive by its answers to pings",
			l.StreamIdle, l.StreamPing)
	}
	return nil
}

// within returns an error unless low ≤ v ≤ high.
func within[T int | float64 | time.Duration](flag string, v, low, high T) error {
	switch {
	case v >= low && v <= high: // false for NaN
		return nil
	case v > high:
		return fmt.Errorf("--%s must be at most %v", flag, high)
	}
	return fmt.Errorf("--%s must be at least %v", flag, low)
}

// config turns flags into the server's configuration.
func (f serveFlags) config(data, logLevel string, logTo io.Writer) (server.Config, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(logLevel)); err != nil {
		return server.Config{}, usageError{err}
	}
	var handler slog.Handler = slog.NewTextHandler(logTo, &slog.HandlerOptions{Level: level})
	if f.LogFormat == "json" {
		handler = slog.NewJSONHandler(logTo, &slog.HandlerOptions{Level: level})
	}
	cfg := server.Config{
		Listen: f.Listen, OpsListen: f.OpsListen, TLSCert: f.TLSCert, TLSKey: f.TLSKey, Data: data, Database: f.Database, Node: f.Node,
		Bootstrap: f.Bootstrap, AdminToken: f.AdminToken, DrainDelay: f.DrainDelay, Drain: f.Drain, Log: slog.New(handler),
		Cluster: f.Cluster.config(),
		Gateway: gateway.Limits{
			MaxSessions:  f.Limits.MaxSessions,
			HelloTimeout: f.Limits.HelloTimeout, PingInterval: f.Limits.PingInterval, PongTimeout: f.Limits.PongTimeout,
			ExpiryNotice: f.Limits.ExpiryNotice, ExpiryGrace: f.Limits.ExpiryGrace,
			FramesPerMinute: f.Limits.FramesPerMinute, FrameBurst: f.Limits.FrameBurst,
			HellosInFlight: f.Limits.HellosInFlight, ConnectionsPerAddress: f.Limits.ConnectionsPerAddress,
			MaxFrame: f.Limits.MaxFrame, MaxLeases: f.Limits.MaxLeases, EventStreams: f.Limits.EventStreams,
		},
		Manage: manage.Limits{
			StreamsPerKey: f.Limits.StreamsPerKey, RequestsPerSecond: f.Limits.RequestsPerSecond, RequestBurst: f.Limits.RequestBurst,
			MaxBody: f.Limits.MaxBody, StreamPing: f.Limits.StreamPing, StreamIdle: f.Limits.StreamIdle,
		},
	}
	for _, s := range f.TrustedProxies {
		p, err := parsePrefix(s)
		if err != nil {
			return server.Config{}, usagef("--trusted-proxies: %q is not an address or a network such as 10.0.0.0/8", s)
		}
		cfg.TrustedProxies = append(cfg.TrustedProxies, p)
	}
	return cfg, nil
}

// parsePrefix reads a network, or an address as the network of one.
func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

// Run serves until a signal, then drains.
func (c serveCmd) Run(ctx context.Context, io *stdio) error {
	cfg, err := c.config(c.Data, c.LogLevel, io.err)
	if err != nil {
		return err
	}
	srv, err := newServer(ctx, cfg)
	if err != nil {
		return err
	}
	return srv.Run(ctx)
}

func newServer(ctx context.Context, cfg server.Config) (*server.Server, error) {
	srv, err := server.New(ctx, cfg)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hinted{err, ""} // the message names the flag
	case errors.Is(err, os.ErrPermission):
		return nil, hinted{err, "check who owns it, or give another place"}
	}
	return srv, err
}
