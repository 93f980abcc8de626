package server

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/cluster"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
)

// ClusterConfig joins the node to others. The zero value leaves it alone.
type ClusterConfig struct {
	NATS        string // URLs of NATS servers that run elsewhere, comma-separated
	Credentials string // file with credentials for them; "" = none
	Token       string // for them; "" = none, or in the URLs

	Listen string // host:port where the other nodes connect, instead of NATS servers elsewhere: each node is one
	Peers  string // host:port of other nodes, comma-separated; with Listen
	Secret string // of all nodes; with Listen

	TLSCert string // PEM files of the connections between nodes, or to the NATS servers; all three or none
	TLSKey  string
	TLSCA   string
	tls     *tls.Config // of these files

	Name      string         // prefix of every subject; "" = rollcall
	Timing    cluster.Timing // for tests
	Advertise string         // for tests: cluster.EmbeddedConfig.Advertise
}

func (c *ClusterConfig) joins() bool { return c.NATS != "" || c.Listen != "" }

// complete validates; sqlite tells whether the database is one that no other node can use.
func (c *ClusterConfig) complete(sqlite bool) error {
	if c.Name == "" {
		c.Name = "rollcall"
	}
	switch files := []bool{c.TLSCert != "", c.TLSKey != "", c.TLSCA != ""}; {
	case c.NATS != "" && c.Listen != "":
		return errors.New("nats, cluster-listen: give one of them: NATS servers that run elsewhere, or this node as one of its own cluster")
	case c.Listen == "" && (c.Peers != "" || c.Secret != ""):
		return errors.New("cluster-peers, cluster-secret: they are for nodes that connect to each other; give --cluster-listen too")
	case c.NATS == "" && (c.Credentials != "" || c.Token != ""):
		return errors.New("nats-credentials, nats-token: they are for NATS servers that run elsewhere; give --nats too")
	case c.Credentials != "" && c.Token != "":
		return errors.New("nats-credentials, nats-token: give one of them")
	case !c.joins() && (files[0] || files[1] || files[2]):
		return errors.New("cluster-tls-cert, cluster-tls-key, cluster-tls-ca: they are for a node that joins others; give --cluster-listen or --nats too")
	case files[0] != files[1] || files[1] != files[2]:
		return errors.New("cluster-tls-cert, cluster-tls-key, cluster-tls-ca: give all three or none")
	case c.joins() && sqlite:
		return errors.New("database: nodes of a cluster share one database, which SQLite cannot be; give --database postgres://…")
	}
	return c.check()
}

// check is complete's part of which package cluster knows more.
func (c *ClusterConfig) check() (err error) {
	external, embedded := c.external(), c.embedded()
	switch {
	case c.NATS != "":
		err = external.Check()
	case c.Listen != "":
		err = embedded.Check()
	}
	if err == nil && c.TLSCert != "" {
		if c.tls, err = cluster.LoadTLS(c.TLSCert, c.TLSKey, c.TLSCA); err != nil {
			err = fmt.Errorf("cluster-tls-cert, cluster-tls-key, cluster-tls-ca: %w", err)
		}
	}
	return err
}

func (c *ClusterConfig) external() cluster.NATSConfig {
	return cluster.NATSConfig{URLs: c.NATS, Cluster: c.Name, Credentials: c.Credentials, Token: c.Token, TLS: c.tls}
}

func (c *ClusterConfig) embedded() cluster.EmbeddedConfig {
	return cluster.EmbeddedConfig{Listen: c.Listen, Peers: c.Peers, Cluster: c.Name, Secret: c.Secret, TLS: c.tls,
		Advertise: c.Advertise}
}

// newBus connects to the other nodes.
func (s *Server) newBus(ctx context.Context) (cluster.Bus, error) {
	c := &s.cfg.Cluster
	if c.NATS != "" {
		external := c.external()
		external.Node, external.Log = s.cfg.Node, s.log
		return cluster.NewNATS(external)
	}
	embedded := c.embedded()
	embedded.Node, embedded.Log = s.cfg.Node, s.log
	bus, err := cluster.NewEmbedded(ctx, embedded)
	if err != nil {
		return nil, err // not a nil *Embedded, which would be a bus
	}
	return bus, nil
}

// joinCluster makes the node's part in the cluster; it takes part once it runs.
func (s *Server) joinCluster(ctx context.Context) (err error) {
	if !s.cfg.Cluster.joins() {
		return nil
	}
	if s.bus, err = s.newBus(ctx); err != nil {
		return err
	}
	s.cluster, err = cluster.New(cluster.Config{
		Node: s.cfg.Node, Incarnation: s.incarnation.Load(), Registry: s.rows, Bus: s.bus,
		Owner: obedient{owner{s.gateway, s.tenants, nil}, s.recorder}, Version: s.tenants.Applied, Lost: s.superseded,
		Log: s.log, Metrics: s.metrics, Timing: s.cfg.Cluster.Timing,
	})
	return err
}

// superseded lets go of leases that another node has adopted.
func (s *Server) superseded(lost []registry.Row) {
	for i := range lost {
		s.gateway.Superseded(lost[i].Application, lost[i].Session, int64(lost[i].OwnerEpoch)+1)
	}
}

// expect tells the cluster who should be there.
func (s *Server) expect(ctx context.Context) {
	if s.cluster == nil {
		return
	}
	living, err := s.db.Nodes().Living(ctx, nodeLapse)
	if err != nil {
		living = nil
	}
	s.cluster.Expect(living)
}

// missing is manage.Config.Missing.
func (s *Server) missing() func() []string {
	if s.cluster == nil {
		return nil
	}
	return s.cluster.Missing
}

// cutOff is gateway.Config.CutOff. A node that is alone hears of every revocation, for it is the one that is asked.
func (s *Server) cutOff() bool {
	if s.cluster == nil || s.tenants.Away() == nil {
		return false
	}
	return s.cluster.Trouble() != nil || !slices.ContainsFunc(s.cluster.Peers(), func(p cluster.Peer) bool { return p.State == cluster.PeerLive })
}

// clusterTrouble returns what readiness says of the cluster.
func (s *Server) clusterTrouble() (reasons []string) {
	if s.cluster == nil {
		return nil
	}
	if err := s.cluster.Trouble(); err != nil {
		reasons = append(reasons, fmt.Sprintf("bus: the other nodes cannot be reached (%v)", err))
	}
	if missing := s.cluster.Missing(); len(missing) > 0 {
		reasons = append(reasons, "nodes: not all sessions are seen of "+strings.Join(missing, ", "))
	}
	return reasons
}

// owner is manage.Owner: it ends sessions here and, through the cluster, at other nodes.
type owner struct {
	gateway *gateway.Gateway
	tenants *tenant.Directory
	cluster *cluster.Node // nil = the node is alone
}

// Disconnect implements manage.Owner.
func (o owner) Disconnect(ctx context.Context, app api.ApplicationID, id api.ServerID, by tenant.Actor, reason string) (bool, error) {
	if o.cluster != nil {
		return o.cluster.Disconnect(ctx, app, id, string(by), reason)
	}
	return o.gateway.Disconnect(ctx, app, id, by, reason), nil
}

// revokeWait is how long a revocation waits for other nodes: one that lives answers in milliseconds, one that died is known to be
// dead after Timing.Dead.
const revokeWait = 8 * time.Second

// Revoke implements manage.Owner. A node that has not answered when it returns is missing (G4): answers are partial then.
func (o owner) Revoke(ctx context.Context, app api.ApplicationID, by tenant.Actor, reason string) (n int, whole bool, err error) {
	revoked, n, err := o.tenants.Revoke(ctx, app, by, reason)
	if err != nil || o.cluster == nil {
		return n, true, err
	}
	note, err := json.Marshal(revoked.Revocation())
	if err != nil {
		return n, false, err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeWait)
	defer cancel()
	elsewhere, missing := o.cluster.Applied(ctx, app, revoked.Epoch, note)
	return n + elsewhere, len(missing) == 0, nil
}

// matching is the question of disconnectTopic; its answer is the number of sessions that it ended.
type matching struct {
	Query  registry.Query
	At     api.Millis
	By     tenant.Actor
	Reason string
}

// DisconnectMatching implements manage.Owner. Every node decides for its own sessions. None is asked twice, for the second answer would
// not say how many the first ended.
func (o owner) DisconnectMatching(ctx context.Context, q registry.Query, at api.Millis, by tenant.Actor,
	reason string) (n int, whole bool, err error) {
	if o.cluster == nil {
		return o.gateway.DisconnectMatching(q, at, by, reason), true, nil
	}
	question, err := json.Marshal(matching{q, at, by, reason})
	if err != nil {
		return 0, false, err
	}
	var here sync.WaitGroup
	here.Go(func() { n = o.gateway.DisconnectMatching(q, at, by, reason) })
	answers, missing := o.cluster.AskAll(ctx, disconnectTopic, question)
	here.Wait()
	for node, answer := range answers {
		var elsewhere int
		if err := json.Unmarshal(answer, &elsewhere); err != nil {
			missing = append(missing, node)
		}
		n += elsewhere
	}
	return n, len(missing) == 0, nil
}

// obedient is cluster.Owner: it does here what other nodes ask.
type obedient struct {
	owner
	records *store.Recorder
}

// Disconnect implements cluster.Owner. Its answer means what the operator is told: that the end is recorded, where the database
// takes records.
func (o obedient) Disconnect(ctx context.Context, app api.ApplicationID, id api.ServerID, by, reason string) bool {
	ended := o.gateway.Disconnect(ctx, app, id, tenant.Actor(by), reason)
	o.settle(ctx)
	return ended
}

// recordWait is how long an answer waits for the records of what ended: well below the patience of whoever asks.
const recordWait = time.Second

// Applied implements cluster.Owner. The note says what was revoked, so that it takes effect on a node that the database does not
// answer.
func (o obedient) Applied(ctx context.Context, app api.ApplicationID, epoch uint64, note []byte) (int, error) {
	var r tenant.Revocation
	if err := json.Unmarshal(note, &r); err != nil {
		return 0, fmt.Errorf("a revocation that cannot be read: %w", err)
	}
	if err := o.tenants.Learn(ctx, app, r); err != nil {
		return 0, err
	}
	o.settle(ctx)
	return o.gateway.Swept(app, epoch), nil
}

func (o obedient) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	o.records.Flush(ctx)
}

// leaseTopic is that of questions about leases, disconnectTopic that of ends by search.
const (
	leaseTopic      = "lease"
	disconnectTopic = "disconnect matching"
)

// Ask implements cluster.Owner.
func (o obedient) Ask(ctx context.Context, topic string, payload []byte) ([]byte, error) {
	switch topic {
	case leaseTopic:
		return o.gateway.Answer(ctx, payload)
	case disconnectTopic:
		var m matching
		if err := json.Unmarshal(payload, &m); err != nil {
			return nil, fmt.Errorf("a search that cannot be read: %w", err)
		}
		n := o.gateway.DisconnectMatching(m.Query, m.At, m.By, m.Reason)
		o.settle(ctx)
		return json.Marshal(n)
	}
	return nil, api.Errorf(api.CodeUnavailable, "the node does not know what is asked")
}

// elsewhere is gateway.Elsewhere.
type elsewhere struct{ *Server }

// Holder implements gateway.Elsewhere.
func (e elsewhere) Holder(app api.ApplicationID, id api.SessionID) string {
	if row, there := e.rows.Get(app, id); there {
		if node, own, there := e.rows.Owner(app, row.ServerID); there && !own {
			return node
		}
	}
	return ""
}

// Living implements gateway.Elsewhere.
func (e elsewhere) Living(incarnation int64) string {
	for _, p := range e.cluster.Peers() {
		if p.Incarnation == incarnation && (p.State == cluster.PeerLive || p.State == cluster.PeerPulling) {
			return p.Name
		}
	}
	return ""
}

// Others implements gateway.Elsewhere.
func (e elsewhere) Others() (names []string) {
	for _, p := range e.cluster.Peers() {
		if p.State == cluster.PeerLive || p.State == cluster.PeerPulling {
			names = append(names, p.Name)
		}
	}
	return names
}

// Missing implements gateway.Elsewhere.
func (e elsewhere) Missing() bool { return len(e.cluster.Missing()) > 0 }

// Ask implements gateway.Elsewhere.
func (e elsewhere) Ask(ctx context.Context, node string, question []byte) ([]byte, error) {
	return e.cluster.Ask(ctx, node, leaseTopic, question)
}
