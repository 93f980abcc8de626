package cluster_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/cluster/clustertest"
)

const secret = "a secret of the cluster $2a$"

// TestEmbedded: each bus is a server of its own, and they find each other.
func TestEmbedded(t *testing.T) {
	t.Parallel()
	clustertest.Run(t, func(t testing.TB) func() cluster.Bus {
		var peers []string
		return func() cluster.Bus {
			n := len(peers)
			b, err := cluster.NewEmbedded(t.Context(), cluster.EmbeddedConfig{Listen: "127.0.0.1:0", Peers: strings.Join(peers, ","), Cluster: "test",
				Node: fmt.Sprintf("node-%d", n), Secret: secret})
			if err != nil {
				t.Fatal(err)
			}
			peers = append(peers, b.Addr())
			return b
		}
	})
}

// natsServer runs a NATS server as an operator would.
func natsServer(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	opts.Host, opts.NoLog, opts.NoSigs = "127.0.0.1", true, true
	if opts.Port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server does not listen")
	}
	t.Cleanup(func() {
		ns.Shutdown()
		ns.WaitForShutdown()
	})
	return ns
}

// TestNATS: all buses are connections to one server.
func TestNATS(t *testing.T) {
	t.Parallel()
	clustertest.Run(t, func(t testing.TB) func() cluster.Bus {
		ns := natsServer(t, &server.Options{Username: "rollcall", Password: "secret"})
		url := "nats://rollcall:secret@" + ns.Addr().String()
		return func() cluster.Bus {
			b, err := cluster.NewNATS(cluster.NATSConfig{URLs: url, Cluster: "test", Node: "n"})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	})
}

func TestEmbeddedRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for name, change := range map[string]func(*cluster.EmbeddedConfig){
		"no secret":           func(c *cluster.EmbeddedConfig) { c.Secret = "" },
		"a short secret":      func(c *cluster.EmbeddedConfig) { c.Secret = "fifteen letters" },
		"no cluster name":     func(c *cluster.EmbeddedConfig) { c.Cluster = "" },
		"a wildcard":          func(c *cluster.EmbeddedConfig) { c.Cluster = "*" },
		"a taken address":     func(c *cluster.EmbeddedConfig) { c.Listen = taken.Addr().String() },
		"no port":             func(c *cluster.EmbeddedConfig) { c.Listen = "127.0.0.1" },
		"a peer without port": func(c *cluster.EmbeddedConfig) { c.Peers = "127.0.0.1:1,srv-02" },
		"a peer's password":   func(c *cluster.EmbeddedConfig) { c.Peers = "nats://user:verysecret@srv-02:6222" },
		"an empty peer":       func(c *cluster.EmbeddedConfig) { c.Peers = "127.0.0.1:1," },
	} {
		cfg := cluster.EmbeddedConfig{Listen: "127.0.0.1:0", Cluster: "test", Node: "a", Secret: secret}
		change(&cfg)
		b, err := cluster.NewEmbedded(t.Context(), cfg)
		if err == nil {
			b.Stop()
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "fifteen") || !strings.HasPrefix(err.Error(), "cluster-") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// embed starts an embedded bus whose broadcasts are counted.
func embed(t *testing.T, cfg cluster.EmbeddedConfig) (bus *cluster.Embedded, heard *atomic.Int64) {
	t.Helper()
	cfg.Listen = "127.0.0.1:0"
	bus, err := cluster.NewEmbedded(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bus.Stop)
	heard = new(atomic.Int64)
	err = bus.Start(cfg.Node, func([]byte) { heard.Add(1) }, func(context.Context, []byte) []byte { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return bus, heard
}

// TestEmbeddedNeedsTheSecret: who has another secret, another cluster's name or no TLS is not let in, and nobody gets in without.
func TestEmbeddedNeedsTheSecret(t *testing.T) {
	keys := testTLS(t)
	for name, c := range map[string]struct {
		server, client func(*cluster.EmbeddedConfig)
		in             bool
	}{
		"the same secret":      {in: true},
		"another secret":       {client: func(c *cluster.EmbeddedConfig) { c.Secret = "another secret of a cluster" }},
		"another cluster name": {client: func(c *cluster.EmbeddedConfig) { c.Cluster = "other" }},
		"TLS": {
			server: func(c *cluster.EmbeddedConfig) { c.TLS = keys },
			client: func(c *cluster.EmbeddedConfig) { c.TLS = keys }, in: true,
		},
		"no TLS":                   {server: func(c *cluster.EmbeddedConfig) { c.TLS = keys }},
		"TLS of another authority": {server: func(c *cluster.EmbeddedConfig) { c.TLS = keys }, client: func(c *cluster.EmbeddedConfig) { c.TLS = testTLS(t) }},
		"TLS to one that has none": {client: func(c *cluster.EmbeddedConfig) { c.TLS = keys }},
		"a certificate is not given": {server: func(c *cluster.EmbeddedConfig) { c.TLS = keys }, client: func(c *cluster.EmbeddedConfig) {
			c.TLS = &tls.Config{RootCAs: keys.RootCAs, MinVersion: tls.VersionTLS12}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			a := cluster.EmbeddedConfig{Cluster: "test", Node: "a", Secret: secret}
			b := cluster.EmbeddedConfig{Cluster: "test", Node: "b", Secret: secret}
			if c.server != nil {
				c.server(&a)
			}
			if c.client != nil {
				c.client(&b)
			}
			busA, heard := embed(t, a)
			b.Peers = busA.Addr()
			busB, _ := embed(t, b)
			limit := 5 * time.Second
			if !c.in {
				limit = 500 * time.Millisecond
			}
			for deadline := time.Now().Add(limit); time.Now().Before(deadline) && heard.Load() == 0; time.Sleep(5 * time.Millisecond) {
				_ = busB.Broadcast([]byte("let me in"))
			}
			if in := heard.Load() > 0; in != c.in {
				t.Errorf("heard: %v, want %v; routes: %d and %d", in, c.in, busA.Routes(), busB.Routes())
			}
		})
	}
	bus, _ := embed(t, cluster.EmbeddedConfig{Cluster: "test", Node: "a", Secret: secret})
	if conn, err := nats.Connect("nats://" + bus.Addr()); err == nil {
		conn.Close()
		t.Error("a client is let in where nodes connect")
	}
}

// testTLS makes an authority and a certificate of it.
func testTLS(t *testing.T) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := cluster.LoadTLS(cert, keyFile, cert)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cluster.LoadTLS(cert, keyFile, keyFile); err == nil {
		t.Error("an authority without a certificate is taken")
	}
	return cfg
}

func TestNATSRefuses(t *testing.T) {
	ns := natsServer(t, &server.Options{Username: "rollcall", Password: "secret"})
	small := natsServer(t, &server.Options{MaxPayload: 1000})
	for name, cfg := range map[string]cluster.NATSConfig{
		"no URL":                {Cluster: "test"},
		"an empty URL":          {URLs: "nats://127.0.0.1:1,,", Cluster: "test"},
		"no credentials":        {URLs: "nats://" + ns.Addr().String(), Cluster: "test"},
		"a wrong password":      {URLs: "nats://rollcall:verysecret@" + ns.Addr().String(), Cluster: "test"},
		"an unreadable URL":     {URLs: "nats://rollcall:verysecret@[::1", Cluster: "test"},
		"a missing file":        {URLs: "nats://" + ns.Addr().String(), Cluster: "test", Credentials: "/nowhere"},
		"a bad name":            {URLs: "nats://rollcall:secret@" + ns.Addr().String(), Cluster: "a.b"},
		"messages too small":    {URLs: "nats://" + small.Addr().String(), Cluster: "test"},
		"TLS where there is no": {URLs: "tls://rollcall:secret@" + ns.Addr().String(), Cluster: "test"},
	} {
		b, err := cluster.NewNATS(cfg)
		if err == nil {
			b.Stop()
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "verysecret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestClustersOfOtherNamesNeverMeet on one NATS server.
func TestClustersOfOtherNamesNeverMeet(t *testing.T) {
	ns := natsServer(t, &server.Options{})
	faults := clustertest.NewFaults(1)
	start := func(name, of string) *clustertest.Member {
		b, err := cluster.NewNATS(cluster.NATSConfig{URLs: "nats://" + ns.Addr().String(), Cluster: of, Node: name})
		if err != nil {
			t.Fatal(err)
		}
		m := clustertest.Start(t, name, 1, b, faults, clustertest.Real)
		t.Cleanup(m.Stop)
		m.Open(5)
		return m
	}
	a, b, other := start("a", "one"), start("b", "one"), start("c", "two")
	clustertest.Within(t, 10*time.Second, "one cluster", func() string { return clustertest.Differ(a, b) })
	if peers := other.Peers(); len(peers) != 0 || other.Registry.Stats().Sessions != 5 {
		t.Errorf("the other cluster knows %+v", peers)
	}
	if _, err := other.Ask(t.Context(), "a", "x", nil); err == nil {
		t.Error("a node of another cluster answers")
	}
}

// TestNATSComesBack: a server that is not there yet, and one that goes away, are tried for ever, and the rows are exact again.
func TestNATSComesBack(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	faults := clustertest.NewFaults(1)
	var members []*clustertest.Member
	for i := range 2 {
		b, err := cluster.NewNATS(cluster.NATSConfig{URLs: fmt.Sprintf("nats://127.0.0.1:%d", port), Cluster: "test", Node: "n"})
		if err != nil {
			t.Fatal(err)
		}
		m := clustertest.Start(t, fmt.Sprintf("n%d", i), int64(i+1), b, faults, clustertest.Real)
		defer m.Stop()
		m.Open(10)
		members = append(members, m)
	}
	if members[0].Trouble() == nil {
		t.Error("no trouble without a server")
	}
	for range 2 {
		ns := natsServer(t, &server.Options{Port: port})
		clustertest.Within(t, 15*time.Second, "the server is there", func() string { return clustertest.Differ(members...) })
		if err := members[0].Trouble(); err != nil {
			t.Errorf("trouble: %v", err)
		}
		ns.Shutdown()
		ns.WaitForShutdown()
		for _, m := range members {
			m.Open(1)
		}
		clustertest.Within(t, 5*time.Second, "the server is away", func() string {
			if n := members[0].Registry.Stats().Sessions; n != len(members[0].Own()) || members[0].Trouble() == nil {
				return fmt.Sprintf("%d rows, trouble %v", n, members[0].Trouble())
			}
			return ""
		})
	}
}
