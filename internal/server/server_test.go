package server_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcallhq/rollcall/internal/server"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// TestRefusals: a configuration that cannot be honoured is refused with the field and what to do, and leaves nothing open.
func TestRefusals(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	notDir := write("file", "")
	shortToken := filepath.Join(dir, "short")
	os.Mkdir(shortToken, 0o700)
	write("short/admin-token", "x\n")

	for _, tc := range []struct {
		name string
		cfg  server.Config
		want []string // parts of the message
	}{
		{"data is a file", server.Config{Data: notDir}, []string{"data:", "--data"}},
		{"node with a colon", server.Config{Node: "a:b"}, []string{"node:", "--node"}},
		{"node too long", server.Config{Node: strings.Repeat("n", 65)}, []string{"node:", "64"}},
		{"half of TLS", server.Config{TLSCert: "x"}, []string{"tls-cert", "both"}},
		{"TLS files missing", server.Config{TLSCert: "x", TLSKey: "y"}, []string{"tls-cert"}},
		{"address taken", server.Config{Listen: taken.Addr().String()}, []string{"listen:", "--listen"}},
		{"ops address taken", server.Config{OpsListen: taken.Addr().String()}, []string{"ops-listen:", "--ops-listen"}},
		{"address without a port", server.Config{Listen: "localhost"}, []string{"listen:"}},
		{"unknown database", server.Config{Database: "mysql://x"}, []string{"database:", "sqlite:"}},
		{"PostgreSQL without a server", server.Config{Database: "postgres://u:hunter2@127.0.0.1:1/x"}, []string{"database:", "127.0.0.1", "connect"}},
		{"bootstrap file missing", server.Config{Bootstrap: filepath.Join(dir, "none.yaml")}, []string{"bootstrap:", "none.yaml"}},
		{"bootstrap with an unknown field", server.Config{Bootstrap: write("b.yaml", "organisations: []\n")}, []string{"bootstrap:", "organisations"}},
		{"short admin token", server.Config{AdminToken: "short"}, []string{"admin-token:", "24"}},
		{"short admin token in its file", server.Config{Data: shortToken}, []string{"admin-token:", "24"}},
		{"drain delay longer than drain", server.Config{DrainDelay: time.Minute}, []string{"drain-delay:", "drain"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.cfg.Data == "" {
				tc.cfg.Data = t.TempDir()
			}
			if tc.cfg.Listen == "" {
				tc.cfg.Listen = "127.0.0.1:0"
			}
			_, err := server.New(t.Context(), tc.cfg)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tc.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("message %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "panic") || strings.Contains(err.Error(), "\n\n") {
				t.Errorf("message %q is not for people", err)
			}
		})
	}
}

// TestDataDirectory: it belongs to one process, and the admin token in it stays the same and private.
func TestDataDirectory(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	_, err := server.New(t.Context(), server.Config{Listen: "127.0.0.1:0", Data: s.Data})
	if err == nil || !strings.Contains(err.Error(), "another rollcall process") {
		t.Errorf("a second process on the directory: %v", err)
	}
	info, err := os.Stat(filepath.Join(s.Data, server.AdminTokenFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the admin token's file: %v, %v", info.Mode(), err)
	}
	s.Stop(t)
	if err := os.Chmod(filepath.Join(s.Data, server.AdminTokenFile), 0o644); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if info, err := os.Stat(filepath.Join(s.Data, server.AdminTokenFile)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("the admin token's file after a restart: %v, %v", info.Mode(), err)
		}
	}()
	if again := testkit.Start(t, testkit.Config{Data: s.Data}); again.AdminToken != s.AdminToken {
		t.Error("the admin token changed at a restart")
	}
}

// TestDrain: SIGTERM's context tells every client 1001 with a time to come back, closes the records, and Run returns.
func TestDrain(t *testing.T) {
	s := testkit.Start(t, testkit.Config{})
	var held []*session
	for range 20 {
		held = append(held, mustOpen(t, s, hello(testkit.Token(t, nil), nil)))
	}
	w := watch(t, s, testkit.Key, map[string][]string{}, 0)
	began := time.Now()
	s.Stop(t)
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("the drain took %s", took)
	}
	for _, c := range held {
		if event := c.end(t, 1001); !event.Reconnect || event.Reauthenticate {
			t.Errorf("the disconnect event is %+v", event)
		}
	}
	testkit.Eventually(t, "the stream is closed", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.closed != nil })
	if resp, err := http.Get(s.URL); err == nil {
		resp.Body.Close()
		t.Error("the listener is still open")
	}
	again := testkit.Start(t, testkit.Config{Data: s.Data})
	for _, c := range held {
		status, body := again.Do(t, testkit.Key, http.MethodGet, sessionsPath(testkit.App, "/"+c.ID+"?details=true"), nil)
		if status != http.StatusOK || !strings.Contains(string(body), `"node_draining"`) {
			t.Errorf("record after the drain: %d %s", status, body)
		}
	}
}

// TestRunStops: Run leaves no goroutine behind.
func TestRunStops(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	srv, err := server.New(t.Context(), server.Config{Listen: "127.0.0.1:0", Data: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := srv.Run(ctx); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}
