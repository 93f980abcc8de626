package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// NATSConfig configures NewNATS.
type NATSConfig struct {
	URLs        string      // required; comma-separated: nats://[user:password@|token@]host:port, tls://…, ws://…
	Cluster     string      // prefix of every subject: clusters of different names never meet; 1 to 64 letters, digits, '_' or '-'
	Node        string      // how the connection is named
	Credentials string      // file with a JWT and an NKey seed; "" = none
	Token       string      // "" = none, or in the URLs
	TLS         *tls.Config // nil = the system's roots, where the URLs or the server ask for TLS
	Log         *slog.Logger
}

// How a connection to NATS is watched: one that hears nothing is noticed about as fast as a node that says nothing.
const (
	natsPing       = time.Second
	natsPingsOut   = 2
	natsReconnect  = 250 * time.Millisecond
	natsConnect    = 2 * time.Second
	natsFlush      = time.Second
	natsPendingMsg = 1 << 18
	natsPending    = 256 << 20
	askedAtOnce    = 64
)

var clusterNames = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func checkCluster(name string) error {
	if !clusterNames.MatchString(name) {
		return fmt.Errorf("cluster-name: %q must be 1 to 64 letters, digits, '_' or '-'", name)
	}
	return nil
}

// Check returns what is wrong with the configuration as it is written, and with the file of credentials: nothing is connected to.
// NewNATS checks it too. No error repeats a URL, which may have a password in it.
func (cfg *NATSConfig) Check() error {
	if err := checkCluster(cfg.Cluster); err != nil {
		return err
	}
	n := 0
	for s := range strings.SplitSeq(cfg.URLs, ",") {
		n++
		s = strings.TrimSpace(s)
		if !strings.Contains(s, "://") {
			s = "nats://" + s
		}
		u, err := url.Parse(s)
		if err != nil || u.Hostname() == "" || !slices.Contains(natsSchemes, u.Scheme) {
			return fmt.Errorf("nats: URL %d cannot be used; give nats://host:4222, or tls://, ws:// or wss://, several with commas between them, "+
				"and percent-encode special characters of a password", n)
		}
	}
	if cfg.Credentials != "" {
		f, err := os.Open(cfg.Credentials)
		if err != nil {
			return fmt.Errorf("nats-credentials: %w; give a file that this user may read", err)
		}
		_ = f.Close() // it is only tried
	}
	return nil
}

var natsSchemes = []string{"nats", "tls", "ws", "wss"}

// NewNATS returns a bus over servers that run elsewhere. A server that does not answer is tried for ever, beginning now: only a
// configuration that it refuses is an error. Stop closes the connection, also of a bus that was never started.
func NewNATS(cfg NATSConfig) (Bus, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	b := newNATSBus(cfg.Cluster, cfg.Log)
	options := []nats.Option{nats.Name("rollcall " + cfg.Node)}
	if cfg.Credentials != "" {
		options = append(options, nats.UserCredentials(cfg.Credentials))
	}
	if cfg.Token != "" {
		options = append(options, nats.Token(cfg.Token))
	}
	if cfg.TLS != nil {
		options = append(options, nats.Secure(cfg.TLS))
	}
	// Once without trying again: what the server says to credentials is for who starts the node, not for the log.
	if conn, err := nats.Connect(cfg.URLs, append(options, nats.Timeout(natsConnect))...); err == nil {
		limit := conn.MaxPayload()
		conn.Close()
		if limit < MaxMessage {
			return nil, fmt.Errorf("nats: the server takes messages of %d bytes; its max_payload must be %d at least", limit, MaxMessage)
		}
	} else if natsRefuses(err) {
		return nil, fmt.Errorf("nats: %w; check --nats, --nats-credentials, --nats-token and --cluster-tls-ca", withoutSecrets(err))
	} else {
		b.log.Warn("the bus is away; sessions go on, and it is tried again", "err", withoutSecrets(err))
	}
	if err := b.connect(cfg.URLs, options...); err != nil {
		return nil, fmt.Errorf("nats: %w", withoutSecrets(err))
	}
	return b, nil
}

// natsRefuses tells whether an error is of the configuration rather than of the network.
func natsRefuses(err error) bool {
	var unknown *tls.CertificateVerificationError
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrSecureConnRequired) ||
		errors.Is(err, nats.ErrSecureConnWanted) || errors.As(err, &unknown)
}

// withoutSecrets leaves out what net/url repeats of a URL that it cannot read.
func withoutSecrets(err error) error {
	if strings.Contains(err.Error(), "parse ") {
		return errors.New("the URL cannot be read")
	}
	return err
}

// natsBus is a Bus over one connection to NATS.
type natsBus struct {
	prefix string
	log    *slog.Logger
	conn   *nats.Conn
	close  func() // after the connection was closed

	ctx  context.Context // of requests under way, ended by Stop
	end  context.CancelFunc
	work sync.WaitGroup // calls of asked; grows only while stopped is false
	free chan struct{}  // a token a call of asked

	mu      sync.Mutex // held while heard is called, which must not block
	stopped bool
}

func newNATSBus(cluster string, log *slog.Logger) *natsBus {
	b := &natsBus{prefix: "rollcall." + cluster + ".", log: cmp.Or(log, slog.New(slog.DiscardHandler)), close: func() {},
		free: make(chan struct{}, askedAtOnce)}
	b.ctx, b.end = context.WithCancel(context.Background())
	return b
}

// connect connects for good: whatever goes wrong later is tried again.
func (b *natsBus) connect(urls string, options ...nats.Option) (err error) {
	b.conn, err = nats.Connect(urls, append(options,
		nats.Timeout(natsConnect), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(natsReconnect), nats.ReconnectJitter(natsReconnect, natsReconnect),
		nats.ReconnectBufSize(-1), // what cannot be sent now is lost, and pulled later
		nats.PingInterval(natsPing), nats.MaxPingsOutstanding(natsPingsOut),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				b.log.Warn("the bus is away; sessions go on", "err", err)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) { b.log.Info("the bus is back") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.log.Warn("bus", "err", err) }),
	)...)
	return err
}

func (b *natsBus) all() string { return b.prefix + "all" }

// subject is where a node is asked. The dots of its name would part the subject; no name has an equals sign.
func (b *natsBus) subject(node string) string {
	return b.prefix + "node." + strings.ReplaceAll(node, ".", "=")
}

// Start is Bus.Start.
func (b *natsBus) Start(node string, heard func([]byte), asked func(context.Context, []byte) []byte) error {
	hear := func(msg *nats.Msg) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.stopped {
			heard(msg.Data)
		}
	}
	answer := func(msg *nats.Msg) {
		select {
		case b.free <- struct{}{}:
		case <-b.ctx.Done():
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.stopped {
			return
		}
		b.work.Go(func() {
			defer func() { <-b.free }()
			if reply := asked(b.ctx, msg.Data); reply != nil {
				if err := msg.Respond(reply); err != nil {
					b.log.Debug("an answer was lost", "err", err)
				}
			}
		})
	}
	for subject, handle := range map[string]nats.MsgHandler{b.all(): hear, b.subject(node): answer} {
		sub, err := b.conn.Subscribe(subject, handle)
		if err == nil {
			err = sub.SetPendingLimits(natsPendingMsg, natsPending)
		}
		if err != nil {
			return fmt.Errorf("bus: %w", err)
		}
	}
	return nil
}

// Broadcast is Bus.Broadcast.
func (b *natsBus) Broadcast(msg []byte) error { return natsError(b.conn.Publish(b.all(), msg)) }

// Request is Bus.Request.
func (b *natsBus) Request(ctx context.Context, node string, msg []byte) ([]byte, error) {
	answer, err := b.conn.RequestWithContext(ctx, b.subject(node), msg)
	if err != nil {
		return nil, natsError(err)
	}
	return answer.Data, nil
}

func natsError(err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return ErrNoNode
	case errors.Is(err, nats.ErrConnectionClosed):
		return ErrStopped
	case err != nil:
		return fmt.Errorf("bus: %w", err)
	}
	return nil
}

// Status is Bus.Status.
func (b *natsBus) Status() error {
	if s := b.conn.Status(); s != nats.CONNECTED {
		if err := b.conn.LastError(); err != nil {
			return fmt.Errorf("NATS is %s: %w", strings.ToLower(s.String()), err)
		}
		return fmt.Errorf("NATS is %s", strings.ToLower(s.String()))
	}
	return nil
}

// Stop is Bus.Stop.
func (b *natsBus) Stop() {
	b.mu.Lock()
	first := !b.stopped
	b.stopped = true
	b.mu.Unlock()
	b.end()
	b.work.Wait()
	if first {
		if b.conn.IsConnected() {
			_ = b.conn.FlushTimeout(natsFlush) // the goodbye is lost with the rest, and others wait for the silence
		}
		b.conn.Close()
		b.close()
	}
}
