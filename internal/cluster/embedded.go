package cluster

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// EmbeddedConfig configures NewEmbedded.
type EmbeddedConfig struct {
	Listen string // required; host:port where the other nodes connect. Port 0 picks a free one
	Peers  string // comma-separated: host:port, or nats://host:port, of other nodes, one that runs at least. This node may be among them
	// Advertise is host:port that nodes tell each other of this one, beside Peers; "" = as Listen is seen. For tests with a network
	// between the nodes.
	Advertise string
	Cluster   string // as NATSConfig.Cluster; nodes of another name are refused
	Node      string // required
	Secret    string // required, 16 bytes at least: what nodes prove to each other
	// TLS is for both ends of the connections between nodes: certificates, RootCAs and ClientCAs (LoadTLS). nil = they are not
	// encrypted, and who listens on the way learns what opens the cluster to them.
	TLS *tls.Config
	Log *slog.Logger // nil = discard
}

// Embedded is a bus that the nodes form themselves: a NATS server in each, connected among them. No node can connect to it without
// the secret, and no client at all: the server insists on a port for clients before it takes part in a cluster, so it has one on
// loopback, whose password is random and told to nobody.
type Embedded struct {
	*natsBus
	server *server.Server
}

const (
	minSecret     = 16
	embeddedReady = 10 * time.Second
	routeUser     = "rollcall"
)

// NewEmbedded listens, and begins to connect to the peers: who is not there yet is tried for ever. Stop ends it, also when it was
// never started.
func NewEmbedded(ctx context.Context, cfg EmbeddedConfig) (*Embedded, error) {
	opts, err := cfg.options(ctx)
	if err != nil {
		return nil, err
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("cluster-listen: %w", err)
	}
	b := &Embedded{natsBus: newNATSBus(cfg.Cluster, cfg.Log), server: ns}
	ns.SetLogger(&serverLog{log: b.log}, false, false)
	ns.Start()
	b.close = func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	}
	if !ns.ReadyForConnections(embeddedReady) {
		b.close()
		return nil, errors.New("cluster-listen: the address cannot be listened on")
	}
	if err := b.connect("", nats.InProcessServer(ns), nats.UserInfo(opts.Username, opts.Password), nats.Name(cfg.Node)); err != nil {
		b.close()
		return nil, fmt.Errorf("cluster-listen: %w", err)
	}
	return b, nil
}

// Addr returns host:port where other nodes connect.
func (b *Embedded) Addr() string { return b.server.ClusterAddr().String() }

// Routes returns how many other nodes this one is connected to.
func (b *Embedded) Routes() int { return b.server.NumRemotes() }

// Check returns what is wrong with the configuration as it is written: nothing is opened. NewEmbedded checks it too.
func (cfg *EmbeddedConfig) Check() error {
	if err := checkCluster(cfg.Cluster); err != nil {
		return err
	}
	switch {
	case cfg.Secret == "":
		return fmt.Errorf("cluster-secret: is required with --cluster-listen; give %d bytes at least, the same to every node", minSecret)
	case len(cfg.Secret) < minSecret:
		return fmt.Errorf("cluster-secret: %d bytes are too few; give %d at least, the same to every node", len(cfg.Secret), minSecret)
	}
	if _, err := routesTo(cfg.Peers, ""); err != nil {
		return fmt.Errorf("cluster-peers: %w", err)
	}
	return nil
}

// options checks the configuration, and whether it can be honoured.
func (cfg *EmbeddedConfig) options(ctx context.Context) (*server.Options, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	host, port, err := listenAt(ctx, cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cluster-listen: %w; give another address of this machine with --cluster-listen", err)
	}
	// Derived, so that a secret of any characters will do, and none is mistaken for a hash of a password.
	mac := hmac.New(sha256.New, []byte(cfg.Secret))
	mac.Write([]byte("rollcall cluster routes"))
	password := hex.EncodeToString(mac.Sum(nil))
	routes, err := routesTo(cfg.Peers, password)
	if err != nil {
		return nil, fmt.Errorf("cluster-peers: %w", err)
	}
	opts := &server.Options{
		ServerName: cfg.Node,
		Host:       "127.0.0.1",
		Port:       server.RANDOM_PORT,
		Username:   routeUser,
		Password:   rand.Text(),
		MaxPayload: MaxMessage,
		NoSigs:     true,
		Cluster: server.ClusterOpts{
			Name: cfg.Cluster, Host: host, Port: port, Advertise: cfg.Advertise, Username: routeUser, Password: password,
			PingInterval: natsPing, MaxPingsOut: natsPingsOut,
		},
		Routes: routes,
	}
	if cfg.TLS != nil {
		opts.Cluster.TLSConfig = cfg.TLS.Clone()
		opts.Cluster.TLSConfig.ClientAuth = tls.RequireAndVerifyClientCert
		opts.Cluster.TLSTimeout = embeddedReady.Seconds()
	}
	return opts, nil
}

// listenAt finds out whether an address can be listened on, because the server would not say why not.
func listenAt(ctx context.Context, addr string) (host string, port int, err error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = l.Close() }() // it is only tried
	if host, _, err = net.SplitHostPort(addr); err != nil {
		return "", 0, err
	}
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return "", 0, fmt.Errorf("%s is not a TCP address", addr)
	}
	return cmp.Or(host, "0.0.0.0"), tcp.Port, nil
}

func routesTo(peers, password string) (routes []*url.URL, err error) {
	if strings.TrimSpace(peers) == "" {
		return nil, nil
	}
	for peer := range strings.SplitSeq(peers, ",") {
		peer = strings.TrimSpace(peer)
		if _, rest, has := strings.Cut(peer, "://"); has {
			peer = rest
		}
		host, port, err := net.SplitHostPort(peer)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || host == "" || n == 0 || strings.ContainsAny(host, "@/ ") {
			if _, rest, has := strings.Cut(peer, "@"); has {
				peer = "…@" + rest // who puts a secret there must not find it in a log
			}
			return nil, fmt.Errorf("%q is not host:port of another node's --cluster-listen; the secret is not part of it", peer)
		}
		routes = append(routes, &url.URL{Scheme: "nats-route", Host: peer, User: url.UserPassword(routeUser, password)})
	}
	return routes, nil
}

// LoadTLS reads the files of a connection between nodes: this node's certificate and key, and the authority of all of them.
func LoadTLS(certFile, keyFile, caFile string) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", caFile)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool}, nil
}
