package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/rollcallhq/rollcall/internal/server"
)

// ownFile is the bootstrap file in the data directory of a server that a command runs for itself.
const ownFile = "mcp.yaml"

const ownTemplate = `# The organization of rollcall mcp --serve. The key below was made for this data directory.
organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: MCP
    plan: {name: Own, liveSessionsOverview: true, historyRetention: 720h}
    applications:
      - {id: %s, number: "%s", name: MCP server}
    apiKeys:
      - name: Operator
        key: rck_%s_%s
        scopes: [sessions:read, sessions:disconnect, sessions:create, applications:read, applications:write, account:read, audit:read]
        applications: all
`

// ownConfig configures startOwn.
type ownConfig struct {
	listen   string
	data     string // "" = a temporary directory
	logLevel string
}

// ownServer is a Rollcall server that a command runs for itself.
type ownServer struct {
	url, key string
	ctx      context.Context //nolint:containedctx // it ends with the server, whose owner has it

	cancel, drain context.CancelFunc
	running       sync.WaitGroup
	err           error // of the server, once it has stopped
	temporary     string
}

// startOwn runs a server until stop, or until it fails. Its ctx ends with the given one and with the server.
func startOwn(ctx context.Context, io *stdio, cfg ownConfig) (own *ownServer, err error) {
	own = &ownServer{}
	if cfg.data == "" {
		if cfg.data, err = os.MkdirTemp("", "rollcall-mcp-"); err != nil {
			return nil, err
		}
		own.temporary = cfg.data
	}
	srv, err := own.server(ctx, io, cfg)
	if err != nil {
		own.clean()
		return nil, err
	}
	own.url = "http://" + reachable(srv.Addr())
	own.ctx, own.cancel = context.WithCancel(ctx)
	sctx, drain := context.WithCancel(context.WithoutCancel(ctx))
	own.drain = drain
	own.running.Go(func() {
		own.err = srv.Run(sctx)
		own.cancel()
	})
	return own, nil
}

func (own *ownServer) server(ctx context.Context, io *stdio, cfg ownConfig) (*server.Server, error) {
	file, err := own.bootstrap(cfg.data)
	if err != nil {
		return nil, fmt.Errorf("data: %w", err)
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.logLevel)); err != nil {
		return nil, usageError{err}
	}
	return newServer(ctx, server.Config{Listen: cfg.listen, Data: cfg.data, Bootstrap: file, Drain: 5 * time.Second,
		Log: slog.New(slog.NewTextHandler(io.err, &slog.HandlerOptions{Level: max(level, slog.LevelWarn)}))})
}

// bootstrap makes the file with the key, or finds the one of an earlier run.
func (own *ownServer) bootstrap(data string) (path string, err error) {
	path = filepath.Join(data, ownFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw = fmt.Appendf(nil, ownTemplate, demoApplication, demoNumber, secret(16), secret(48))
		if err = os.MkdirAll(data, 0o700); err == nil {
			err = os.WriteFile(path, raw, 0o600)
		}
	}
	if err != nil {
		return "", err
	}
	var b demoBootstrap
	if err := yaml.Load(raw, &b); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if len(b.Organizations) != 1 || len(b.Organizations[0].APIKeys) != 1 {
		return "", hinted{fmt.Errorf("%s was not made by rollcall mcp", path), "delete it, or give another --data"}
	}
	own.key = b.Organizations[0].APIKeys[0].Key
	return path, nil
}

// stop drains the server and returns how it ended.
func (own *ownServer) stop() error {
	own.drain()
	own.running.Wait()
	own.cancel()
	own.clean()
	return own.err
}

func (own *ownServer) clean() {
	if own.temporary != "" {
		_ = os.RemoveAll(own.temporary) // it is the system's temporary directory
	}
}
