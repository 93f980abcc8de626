package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
	"github.com/rollcallhq/rollcall/internal/server"
)

// The demo's application: the ids of both API documents, so that their examples work as pasted.
const (
	demoNumber      = "123456789"
	demoApplication = "550e8400-e29b-41d4-a716-446655440000"
	demoFile        = "demo.yaml" // the bootstrap file in the data directory
)

type demoCmd struct {
	Sessions int     `default:"250" help:"How many clients."`
	Churn    float64 `default:"5" help:"Sessions that come, go or change, a second."`
	Data     string  `placeholder:"DIR" help:"Data directory to keep; default: a temporary one that is removed."`
	LogLevel string  `enum:"debug,info,warn,error" default:"warn" help:"Least severe log lines: ${enum}."`
	serveFlags
}

// Validate bounds the load to what one process can hold open.
func (c demoCmd) Validate() error {
	switch {
	case c.Sessions < 0 || c.Sessions > 10_000:
		return errors.New("--sessions must be from 0 to 10000")
	case c.Churn < 0 || c.Churn > 1000:
		return errors.New("--churn must be from 0 to 1000")
	case c.Bootstrap != "":
		return errors.New("--bootstrap is the demo's own: use serve to start with a file of yours")
	}
	return c.serveFlags.Validate()
}

// demoBootstrap is what the demo needs to know of its bootstrap file.
type demoBootstrap struct {
	Organizations []struct {
		Applications []struct {
			PublishableKey string `yaml:"publishableKey"`
		} `yaml:"applications"`
		APIKeys []struct {
			Key string `yaml:"key"`
		} `yaml:"apiKeys"`
	} `yaml:"organizations"`
}

// The clients have a key of their own, so that their tokens never use up the requests of the operator's.
const demoTemplate = `# The demo's organization. The keys below were made for this data directory.
organizations:
  - id: 11111111-1111-4111-8111-111111111111
    name: Demo
    plan: {name: Demo, maxAuthorizedSessions: 20000, liveSessionsOverview: true, historyRetention: 24h}
    applications:
      - id: %s
        number: "%s"
        name: Desktop Client
        publishableKey: rca_%s
        idleAfter: 1m
        tokens: {hs256Secret: %s}
    apiKeys:
      - name: Operator
        key: rck_%s_%s
        scopes: [sessions:read, sessions:disconnect, sessions:create, applications:read, applications:write, account:read, audit:read]
        applications: all
      - name: Demo clients
        key: rck_%s_%s
        scopes: [sessions:create]
        applications: all
`

// secret returns n random characters of a-z and 2-7.
func secret(n int) string { return strings.ToLower(rand.Text() + rand.Text())[:n] }

// bootstrap returns the demo's keys, from the data directory when a demo ran there before.
func (c demoCmd) bootstrap(data string) (path string, keys demoKeys, err error) {
	path = filepath.Join(data, demoFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw = fmt.Appendf(nil, demoTemplate, demoApplication, demoNumber, secret(16), secret(48),
			secret(16), secret(48), secret(16), secret(48))
		if err = os.MkdirAll(data, 0o700); err == nil {
			err = os.WriteFile(path, raw, 0o600)
		}
	}
	if err != nil {
		return "", keys, err
	}
	var b demoBootstrap
	if err := yaml.Load(raw, &b); err != nil {
		return "", keys, fmt.Errorf("%s: %w", path, err)
	}
	if len(b.Organizations) != 1 || len(b.Organizations[0].Applications) != 1 || len(b.Organizations[0].APIKeys) != 2 {
		return "", keys, hinted{fmt.Errorf("%s is not a demo's", path), "delete it, or give another --data"}
	}
	org := b.Organizations[0]
	keys = demoKeys{publishable: org.Applications[0].PublishableKey, operator: org.APIKeys[0].Key, clients: org.APIKeys[1].Key}
	return path, keys, nil
}

type demoKeys struct{ publishable, operator, clients string }

// Run is serve with a load generator; it ends with the first of a signal and a failure of the server.
func (c demoCmd) Run(ctx context.Context, io *stdio) error {
	data := c.Data
	if data == "" {
		dir, err := os.MkdirTemp("", "rollcall-demo-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir) //nolint:errcheck // it is the system's temporary directory
		data = dir
	}
	file, keys, err := c.bootstrap(data)
	if err != nil {
		return fmt.Errorf("data: %w", err)
	}
	cfg, err := c.config(data, c.LogLevel, io.err)
	if err != nil {
		return err
	}
	cfg.Bootstrap = file
	cfg.Reserve = c.Sessions + connectingAtOnce // the clients' ends
	if cfg.TrustedProxies == nil {
		// The clients say that they come from other addresses, so that there is something to see and search.
		cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	srv, err := newServer(ctx, cfg)
	if err != nil {
		return err
	}
	return c.serve(ctx, io, srv, keys)
}

// serve runs the server under the load. The clients leave first: the drain is the server's, and theirs is not the last word.
func (c demoCmd) serve(ctx context.Context, io *stdio, srv *server.Server, keys demoKeys) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sctx, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	var running sync.WaitGroup
	var serverErr error
	running.Go(func() {
		serverErr = srv.Run(sctx)
		cancel()
	})

	at := address{http: "http", host: reachable(srv.Addr())}
	if c.TLSCert != "" {
		at.http = "https"
	}
	hc := &http.Client{Transport: demoTransport()}
	m, err := client.NewManage(client.ManageConfig{URL: at.url(), Key: keys.operator, HTTPClient: hc})
	if err == nil {
		_, err = m.Applications(ctx) // answered once the server is ready
	}
	if err == nil {
		at.print(io.out, keys, c)
		tokens, terr := client.NewManage(client.ManageConfig{URL: at.url(), Key: keys.clients, HTTPClient: hc})
		if err = terr; err == nil {
			newLoad(at.url(), tokens, keys.publishable, io.out).run(ctx, c.Sessions, c.Churn)
		}
	}
	if ctx.Err() != nil {
		err = nil // a signal, or the server's own end, which says why
	}
	drain()
	running.Wait()
	return errors.Join(err, serverErr)
}

// demoTransport trusts any certificate: the clients talk to the process that they run in.
func demoTransport() *http.Transport {
	//nolint:gosec // see above
	insecure := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}}
	return &http.Transport{TLSClientConfig: insecure, MaxIdleConnsPerHost: connectingAtOnce, IdleConnTimeout: time.Minute}
}

// reachable returns where to dial a listener's address: one that listens everywhere is reached on loopback.
func reachable(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || !ap.Addr().IsUnspecified() {
		return addr
	}
	loopback := "127.0.0.1"
	if ap.Addr().Is6() {
		loopback = "localhost"
	}
	return net.JoinHostPort(loopback, strconv.Itoa(int(ap.Port())))
}

// address is where the demo's server is.
type address struct{ http, host string }

func (a address) url() string { return a.http + "://" + a.host }

// print says what there is to try. Every line can be pasted as it is.
func (a address) print(w interface{ Write([]byte) (int, error) }, keys demoKeys, c demoCmd) {
	self := invokedAs()
	live := api.LivePath + "?applicationId=" + demoNumber + "&page=1&pageSize=10"
	sessions := api.RoutePrefix + "/applications/" + demoApplication + "/sessions"
	ws := "ws" + strings.TrimPrefix(a.http, "http") + "://" + a.host
	kept := "keeps nothing"
	if c.Data != "" {
		kept = "keeps its data in " + c.Data
	}
	auth := ` -H "Authorization: Bearer ` + keys.operator + `"`
	op := " --url " + a.url() + " --key " + keys.operator + " --application " + demoNumber
	fmt.Fprintf(w, `Rollcall is at %s with %d clients and %g changes a second. Ctrl-C ends it; it %s.
Open it in a browser and sign in with the API key.

  application      %s (%s)
  API key          %s
  publishable key  %s

List live sessions, list sessions with their status, end all of them:

  curl "%s"%s
  curl "%s"%s
  curl -X DELETE "%s"%s

Watch a page of live sessions (end one with {"type":"disconnect_session","serverId":"…"}):

  wscat%s -c "%s"

Hold a session, with this as the first message:

  wscat -s %s -c %s%s
  {"type":"hello","publishableKey":"%s","clientId":"wscat-001","hostname":"my-machine"}

The same from the command line:

  %s sessions list%s
  %s sessions watch%s
  %s sessions revoke-all%s
  %s connect%s --login me@example.com

`, a.url(), c.Sessions, c.Churn, kept,
		demoNumber, demoApplication, keys.operator, keys.publishable,
		a.url()+live, auth, a.url()+sessions+"?limit=50", auth, a.url()+sessions, auth,
		auth, ws+live,
		api.Subprotocol, ws, api.ConnectPath, keys.publishable,
		self, op, self, op, self, op, self, op)
}

// goRun matches where go run puts what it builds: a temporary directory, or the build cache.
var goRun = regexp.MustCompile(`/go-build|/[0-9a-f]{64}-d/`)

// invokedAs returns how the user called this program, so that the printed lines work the same way.
func invokedAs() string {
	exe, err := os.Executable()
	if err == nil && goRun.MatchString(filepath.ToSlash(exe)) {
		return "go run ./cmd/rollcall"
	}
	return os.Args[0]
}
