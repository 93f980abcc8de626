//go:build unix

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// nodeEnv has the process of a node serve a config instead of running tests.
const nodeEnv = "ROLLCALL_CHAOS_NODE"

func TestMain(m *testing.M) {
	if text := os.Getenv(nodeEnv); text != "" {
		if err := serve(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

type config struct {
	Node, Data, Database string
	Cluster              server.ClusterConfig
	Clock                time.Duration // by which the wall clock of this life is ahead
}

func serve(text string) error {
	var c config
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // it ends with the test's process, however that ends
		os.Exit(3)
	}()
	srv, err := server.New(ctx, server.Config{Listen: "127.0.0.1:0", OpsListen: "127.0.0.1:0", Data: c.Data, Database: c.Database,
		Node: c.Node, Bootstrap: filepath.Join(c.Data, "bootstrap.yaml"), Cluster: c.Cluster, Drain: 4 * time.Second,
		Now:    func() time.Time { return time.Now().Add(c.Clock) },
		Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	fmt.Println(srv.Addr(), srv.OpsAddr())
	return srv.Run(ctx)
}

// node is one node, over all of its lives.
type node struct {
	config
	log *os.File
	db  *proxy // between the node and PostgreSQL
	bus []link // to and from NATS, or the other nodes

	mu        sync.Mutex
	cmd       *exec.Cmd // nil while it does not run
	stdin     io.Closer
	addr, ops string
	frozen    bool
	troubles  []trouble
}

// trouble is a time in which a node could not do what it should; to is zero while it lasts.
type trouble struct {
	from, to time.Time
	killed   bool
	drained  bool
	deaf     bool // neither NATS nor PostgreSQL reached it
	clock    bool // its wall clock was off
}

func newNode(t *testing.T, c config, logs string) *node {
	t.Helper()
	c.Data = t.TempDir()
	if err := os.WriteFile(filepath.Join(c.Data, "bootstrap.yaml"), []byte(testkit.Bootstrap(testkit.Config{})), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(logs, c.Node+".log"))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{config: c, log: log}
	t.Cleanup(func() { n.kill(); _ = log.Close() })
	return n
}

// start starts a life of the node and waits until it serves.
func (n *node) start() error {
	text, err := json.Marshal(n.config)
	if err != nil {
		return err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(text))
	cmd.Stderr = n.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var addr, ops string
	if _, err := fmt.Fscanln(out, &addr, &ops); err != nil {
		_ = cmd.Process.Kill()
		return fmt.Errorf("%s did not start: %w, %w", n.Node, err, cmd.Wait())
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cmd, n.stdin, n.addr, n.ops = cmd, in, addr, ops
	return nil
}

// at returns where the node serves, false while it does not run or stands still.
func (n *node) at() (addr string, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addr, n.cmd != nil && !n.frozen
}

// kill is kill -9.
func (n *node) kill() { _ = n.end(syscall.SIGKILL) } // what it says is that it was killed

func (n *node) end(s syscall.Signal) error {
	n.mu.Lock()
	cmd := n.cmd
	n.mu.Unlock()
	if cmd == nil {
		return nil
	}
	_ = cmd.Process.Signal(s)
	err := cmd.Wait()
	n.mu.Lock()
	n.cmd = nil
	n.mu.Unlock()
	_ = n.stdin.Close()
	return err
}

func (n *node) freeze() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = true
	return n.cmd.Process.Signal(syscall.SIGSTOP)
}

func (n *node) thaw() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.frozen = false
	return n.cmd.Process.Signal(syscall.SIGCONT)
}

// suffer says that a trouble begins, and returns what ends it.
func (n *node) suffer(t trouble) (over func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	t.from = time.Now()
	n.troubles = append(n.troubles, t)
	i := len(n.troubles) - 1
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.troubles[i].to = time.Now()
	}
}

// during returns the troubles that the node had between two moments.
func (n *node) during(from, to time.Time) (all []trouble) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, t := range n.troubles {
		if t.from.Before(to) && (t.to.IsZero() || t.to.After(from)) {
			all = append(all, t)
		}
	}
	return all
}
