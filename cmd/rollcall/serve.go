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
	"maxFrame":          strconv.Itoa(api.MaxFrame),
	"maxBody":           strconv.Itoa(api.MaxBody),
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
	Database       string        `placeholder:"URL" help:"sqlite:FILE; default: rollcall.db in the data directory."`
	Node           string        `placeholder:"NAME" help:"Name of this node, such as srv-01; default: the host name."`
	Bootstrap      string        `placeholder:"FILE" help:"YAML file with organizations, applications and keys to create or update at start."`
	AdminToken     string        `placeholder:"TOKEN" help:"Admin token; default: the one in the data directory, made when missing."`
	TLSCert        string        `name:"tls-cert" placeholder:"FILE" help:"PEM certificate chain: serve TLS."`
	TLSKey         string        `name:"tls-key" placeholder:"FILE" help:"PEM key of --tls-cert."`
	TrustedProxies []string      `placeholder:"CIDR,…" help:"Peers whose X-Forwarded-For or Forwarded header names the client."`
	Drain          time.Duration `default:"20s" help:"How long a clean stop may take."`
	DrainDelay     time.Duration `default:"0s" help:"Between failing /readyz and refusing connections, for balancers to notice."`
	LogFormat      string        `enum:"text,json" default:"text" help:"Log lines on stderr: ${enum}."`

	Limits limitFlags `embed:"" group:"Limits"`
}

// limitFlags are the default limits of page 2 and the timing of page 3.
type limitFlags struct {
	HelloTimeout          time.Duration `default:"${helloTimeout}" help:"For a client's first frame."`
	PingInterval          time.Duration `default:"${pingInterval}" help:"Between pings of a session."`
	PongTimeout           time.Duration `default:"${pongTimeout}" help:"For a client to answer a ping."`
	ExpiryNotice          time.Duration `default:"${expiryNotice}" help:"Of token_expiring before the expiry."`
	ExpiryGrace           time.Duration `default:"${expiryGrace}" help:"From a token's expiry to the session's end."`
	FramesPerMinute       int           `default:"${framesPerMinute}" help:"Of a session."`
	FrameBurst            int           `default:"${frameBurst}" help:"Of a session."`
	HellosInFlight        int           `default:"256" help:"Being verified at once; more wait."`
	ConnectionsPerAddress int           `default:"0" help:"Of sessions; 0 is unlimited."`
	StreamsPerKey         int           `default:"${streamsPerKey}" help:"Of operators."`
	RequestsPerSecond     float64       `default:"${requestsPerSecond}" help:"Of an API key."`
	RequestBurst          int           `default:"${requestBurst}" help:"Of an API key."`
	MaxFrame              int           `default:"${maxFrame}" placeholder:"BYTES" help:"Of a session's message (${default})."`
	MaxBody               int           `default:"${maxBody}" placeholder:"BYTES" help:"Of a management request (${default})."`
}

// Validate refuses numbers that would quietly mean the default.
func (f serveFlags) Validate() error {
	l := f.Limits
	for _, limit := range []struct {
		flag     string
		positive bool
	}{
		{"hello-timeout", l.HelloTimeout > 0}, {"ping-interval", l.PingInterval > 0}, {"pong-timeout", l.PongTimeout > 0},
		{"expiry-notice", l.ExpiryNotice > 0}, {"expiry-grace", l.ExpiryGrace > 0},
		{"frames-per-minute", l.FramesPerMinute > 0}, {"frame-burst", l.FrameBurst > 0}, {"hellos-in-flight", l.HellosInFlight > 0},
		{"streams-per-key", l.StreamsPerKey > 0}, {"requests-per-second", l.RequestsPerSecond > 0}, {"request-burst", l.RequestBurst > 0},
		{"max-frame", l.MaxFrame > 0}, {"max-body", l.MaxBody > 0},
		{"drain", f.Drain > 0},
	} {
		if !limit.positive {
			return fmt.Errorf("--%s must be greater than 0", limit.flag)
		}
	}
	if l.ConnectionsPerAddress < 0 {
		return errors.New("--connections-per-address must be at least 0, which is unlimited")
	}
	return nil
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
		Gateway: gateway.Limits{
			HelloTimeout: f.Limits.HelloTimeout, PingInterval: f.Limits.PingInterval, PongTimeout: f.Limits.PongTimeout,
			ExpiryNotice: f.Limits.ExpiryNotice, ExpiryGrace: f.Limits.ExpiryGrace,
			FramesPerMinute: f.Limits.FramesPerMinute, FrameBurst: f.Limits.FrameBurst,
			HellosInFlight: f.Limits.HellosInFlight, ConnectionsPerAddress: f.Limits.ConnectionsPerAddress,
			MaxFrame: f.Limits.MaxFrame,
		},
		Manage: manage.Limits{
			StreamsPerKey: f.Limits.StreamsPerKey, RequestsPerSecond: f.Limits.RequestsPerSecond, RequestBurst: f.Limits.RequestBurst,
			MaxBody: f.Limits.MaxBody,
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
