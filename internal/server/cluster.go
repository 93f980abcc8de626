package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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

	Name   string         // prefix of every subject; "" = rollcall
	Timing cluster.Timing // for tests
}

func (c *ClusterConfig) joins() bool { return c.NATS != "" || c.Listen != "" }

// complete validates; sqlite tells whether the database is one that no other node can use.
func (c *ClusterConfig) complete(sqlite bool) error {
	if c.Name == "" {
		c.Name = "rollcall"
	}
	switch files := []bool{c.TLSCert != "", c.TLSKey != "", c.TLSCA != ""}; {
	case !c.joins() && (c.Peers != "" || c.Secret != ""):
		return errors.New("cluster-peers, cluster-secret: these are for a node that joins others; give --cluster-listen too")
	case c.NATS != "" && c.Listen != "":
		return errors.New("nats, cluster-listen: give one of them: NATS servers that run elsewhere, or this node as one of its own cluster")
	case c.joins() && sqlite:
		return errors.New("database: nodes of a cluster share one database, which SQLite cannot be; give --database postgres://…")
	case c.Listen != "" && c.Secret == "":
		return errors.New("cluster-secret: is required with --cluster-listen: nothing listens without authentication")
	case files[0] != files[1] || files[1] != files[2]:
		return errors.New("cluster-tls-cert, cluster-tls-key, cluster-tls-ca: give all three or none")
	}
	return nil
}

// newBus connects to the other nodes.
func (s *Server) newBus(ctx context.Context) (cluster.Bus, error) {
	c := &s.cfg.Cluster
	natsConfig := cluster.NATSConfig{URLs: c.NATS, Cluster: c.Name, Node: s.cfg.Node, Credentials: c.Credentials, Token: c.Token, Log: s.log}
	own := cluster.EmbeddedConfig{Listen: c.Listen, Peers: c.Peers, Cluster: c.Name, Node: s.cfg.Node, Secret: c.Secret, Log: s.log}
	if c.TLSCert != "" {
		conf, err := cluster.LoadTLS(c.TLSCert, c.TLSKey, c.TLSCA)
		if err != nil {
			return nil, fmt.Errorf("cluster-tls-cert, cluster-tls-key, cluster-tls-ca: %w", err)
		}
		natsConfig.TLS, own.TLS = conf, conf
	}
	if c.NATS != "" {
		return cluster.NewNATS(natsConfig)
	}
	return cluster.NewEmbedded(ctx, own)
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
	note, err := json.Marshal(tenant.Revocation{Epoch: revoked.Epoch, RevokedAt: revoked.RevokedAt, By: revoked.RevokedBy,
		Reason: revoked.RevokedReason, Version: revoked.Version})
	if err != nil {
		return n, true, err
	}
	ctx, cancel := context.WithTimeout(ctx, revokeWait)
	defer cancel()
	elsewhere, missing := o.cluster.Applied(ctx, app, revoked.Epoch, note)
	return n + elsewhere, len(missing) == 0, nil
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

// Applied implements cluster.Owner. The note has what there is to apply, so that a node without the database can (G4).
func (o obedient) Applied(ctx context.Context, app api.ApplicationID, epoch uint64, note []byte) (int, error) {
	var revoked tenant.Revocation
	if err := json.Unmarshal(note, &revoked); err != nil {
		return 0, fmt.Errorf("the note of a revocation: %w", err)
	}
	if err := o.tenants.Heed(ctx, app, revoked); err != nil {
		return 0, err
	}
	o.settle(ctx)
	return o.gateway.Swept(app, epoch), nil
}

// recordWait leaves time for the answer to a command when the database has just gone, and is not known to be away.
const recordWait = time.Second

func (o obedient) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, recordWait)
	defer cancel()
	o.records.Flush(ctx)
}

// Ask implements cluster.Owner.
func (o obedient) Ask(context.Context, string, []byte) ([]byte, error) {
	return nil, api.Errorf(api.CodeUnavailable, "the node does not know what is asked")
}
