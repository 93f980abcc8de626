package mcp_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
	"github.com/rollcallhq/rollcall/mcp"
)

const nodeDir = "testdata/node"

// needNode skips the test where the official TypeScript software is not installed; in CI it must be.
func needNode(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts many processes")
	}
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(nodeDir, "node_modules"))
	}
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("the official TypeScript software is missing: run npm ci in mcp/%s: %v", nodeDir, err)
	default:
		t.Skipf("skipped, for the official TypeScript software is missing: run npm ci in mcp/%s", nodeDir)
	}
}

// node runs a program to its end and returns what it printed.
func node(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "node", args...)
	cmd.Dir = nodeDir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Errorf("node %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// startNode runs a server until the test ends, and returns its first line, if wait says to wait for one.
func startNode(t *testing.T, env []string, wait bool, args ...string) string {
	t.Helper()
	cmd := exec.Command("node", args...)
	cmd.Dir, cmd.Env = nodeDir, append(os.Environ(), env...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	line := ""
	if wait && lines.Scan() {
		line = lines.Text()
	}
	var draining sync.WaitGroup
	draining.Go(func() { _, _ = io.Copy(io.Discard, out) })
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		draining.Wait()
		_ = cmd.Wait()
	})
	return line
}

// The servers that the TypeScript clients meet. The last two are what the SDK's authors publish.
func nodeServers(t *testing.T, name string) (endpoint string) {
	t.Helper()
	switch name {
	case "go-legacy":
		return serve(t, sdkHandler(t, false)) + "/mcp"
	case "go-modern":
		return serve(t, sdkHandler(t, true)) + "/mcp"
	case "ts-v1", "ts-v2":
		return "http://127.0.0.1:" + startNode(t, nil, true, "server.mjs", strings.TrimPrefix(name, "ts-")) + "/mcp"
	}
	_, port, _ := strings.Cut(testkit.FreeAddress(t), ":")
	switch name {
	case "sdk-example":
		startNode(t, []string{"MCP_PORT=" + port}, false,
			"node_modules/@modelcontextprotocol/sdk/dist/esm/examples/server/simpleStreamableHttp.js")
	case "everything":
		startNode(t, []string{"PORT=" + port}, false, "node_modules/@modelcontextprotocol/server-everything/dist/index.js", "streamableHttp")
	default:
		t.Fatal(name)
	}
	eventually(t, name+" listens", func() bool {
		conn, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "http://127.0.0.1:" + port + "/mcp"
}

func TestTypeScriptSDK(t *testing.T) {
	needNode(t)
	t.Parallel() // it waits for processes
	rollcall := testkit.Start(t, testkit.Config{})
	for _, tc := range []struct{ server, version, era string }{
		{"ts-v1", "v1", "legacy"}, {"ts-v1", "v2", "legacy"}, {"ts-v2", "v1", "legacy"}, {"ts-v2", "v2", "modern"},
		{"go-legacy", "v1", "legacy"}, {"go-modern", "v2", "modern"}, {"sdk-example", "v1", "legacy"}, {"everything", "v2", "legacy"},
	} {
		t.Run(fmt.Sprintf("%s/%s-%s", tc.server, tc.version, tc.era), func(t *testing.T) {
			f := startAt(t, rollcall, nodeServers(t, tc.server))
			var direct, through string
			var both sync.WaitGroup
			both.Go(func() { direct = node(t, "client.mjs", tc.version, tc.era, f.upstream) })
			both.Go(func() { through = node(t, "client.mjs", tc.version, tc.era, f.gateway) })
			both.Wait()
			if !strings.HasSuffix(direct, "closed true\n") {
				t.Errorf("without the gateway:\n%s", direct)
			}
			if diff := cmp.Diff(strings.Split(direct, "\n"), strings.Split(through, "\n")); diff != "" {
				t.Errorf("through the gateway it is not the same (-direct +gateway):\n%s", diff)
			}
			seen, sessions := map[string]int{}, f.all()
			for _, s := range sessions {
				seen[s.Details.ClientID]++
			}
			name := fmt.Sprintf("ts-%s-%s", tc.version, tc.era)
			for _, want := range []string{name, "ts-parallel-1", "ts-parallel-2", "ts-parallel-3"} {
				if seen[want] == 0 {
					t.Errorf("%s was never listed: %v", want, seen)
				}
			}
			f.revokeAll()
		})
	}
}

// all returns every session of the application, live and ended.
func (f *fixture) all() []api.Session { return f.query("all") }

func (f *fixture) revokeAll() {
	f.t.Helper()
	if _, err := f.manage.RevokeAll(f.t.Context(), testkit.App, ""); err != nil {
		f.t.Fatal(err)
	}
}

// holding starts a TypeScript client, and returns when its call runs; lines has what it prints from then on.
func (f *fixture) holding(version, era string) (cmd *exec.Cmd, lines *bufio.Scanner) {
	f.t.Helper()
	cmd = exec.CommandContext(f.t.Context(), "node", "client.mjs", version, era, f.gateway, "token-ts", "hold")
	cmd.Dir = nodeDir
	out, err := cmd.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	lines = bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "running" {
	}
	return cmd, lines
}

// TestTypeScriptDisconnect: a TypeScript client in the middle of a call sees its stream end, and learns that it must authorize again.
func TestTypeScriptDisconnect(t *testing.T) {
	needNode(t)
	t.Parallel() // it waits for processes
	for _, tc := range []struct{ server, version, era string }{{"ts-v1", "v1", "legacy"}, {"ts-v2", "v2", "modern"}} {
		t.Run(tc.version, func(t *testing.T) {
			f := start(t, nodeServers(t, tc.server))
			cmd, lines := f.holding(tc.version, tc.era)
			at := time.Now()
			f.disconnect(f.one().ID)
			var rest []string
			for lines.Scan() {
				rest = append(rest, lines.Text())
			}
			t.Logf("%v after the disconnect: %s", time.Since(at).Round(time.Millisecond), strings.Join(rest, " | "))
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			if len(rest) != 2 || !strings.Contains(rest[0], "ended by an operator") || !strings.Contains(rest[1], "failed") {
				t.Errorf("the client saw %q", rest)
			}
			if got, _ := f.post("token-ts", ""); got != http.StatusUnauthorized {
				t.Errorf("the token gets %d", got)
			}
		})
	}
}

// TestInspector: the command-line mode of the MCP Inspector, against a server that is not the project's.
func TestInspector(t *testing.T) {
	needNode(t)
	t.Parallel() // it waits for processes
	rollcall := testkit.Start(t, testkit.Config{})
	for _, tc := range []struct {
		server, era string
		calls       [][]string
	}{
		{"everything", "legacy", [][]string{
			{"--method", "tools/list"},
			{"--method", "tools/call", "--tool-name", "get-sum", "--tool-arg", "a=2", "b=3"},
			{"--method", "resources/list"},
		}},
		{"ts-v2", "modern", [][]string{{"--method", "initialize"}, {"--method", "tools/call", "--tool-name", "greet", "--tool-arg", "name=Jo"}}},
	} {
		t.Run(tc.server+"/"+tc.era, func(t *testing.T) {
			f := startAt(t, rollcall, nodeServers(t, tc.server))
			configs := map[string]string{}
			for _, endpoint := range []string{f.upstream, f.gateway} {
				configs[endpoint] = filepath.Join(t.TempDir(), "mcp.json")
				text := fmt.Sprintf(`{"mcpServers":{"s":{"type":"streamable-http","url":%q,"protocolEra":%q}}}`, endpoint, tc.era)
				if err := os.WriteFile(configs[endpoint], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, call := range tc.calls {
				inspect := func(endpoint string) string {
					return node(t, append([]string{"node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js", "--cli",
						"--config", configs[endpoint], "--server", "s", "--format", "json"}, call...)...)
				}
				var direct, through string
				var both sync.WaitGroup
				both.Go(func() { direct = inspect(f.upstream) })
				both.Go(func() { through = inspect(f.gateway) })
				both.Wait()
				if len(direct) < 20 {
					t.Errorf("%v answered %q", call, direct)
				}
				if diff := cmp.Diff(direct, through); diff != "" {
					t.Errorf("%v through the gateway is not the same (-direct +gateway):\n%s", call, diff)
				}
			}
			for _, s := range f.all() {
				if strings.HasPrefix(s.Details.ClientID, "inspector") {
					return
				}
			}
			t.Errorf("the inspector was never listed: %+v", f.all())
		})
	}
}

// TestKilledClient: a client that is killed leaves the list when its lease ends.
func TestKilledClient(t *testing.T) {
	needNode(t)
	t.Parallel() // it waits for the shortest lease there is
	f := start(t, nodeServers(t, "ts-v1"), func(c *mcp.Config) { c.Lease = 15 * time.Second })
	cmd, _ := f.holding("v1", "legacy")
	session := f.one()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	_ = cmd.Wait()
	for len(f.list()) > 0 && time.Since(killed) < 30*time.Second {
		time.Sleep(100 * time.Millisecond)
	}
	took := time.Since(killed)
	t.Logf("it left the list after %v", took.Round(time.Millisecond))
	ended, err := f.manage.Session(t.Context(), testkit.App, session.ID, true)
	if err != nil || ended.Details.EndReason != api.EndLeaseExpired || took < 10*time.Second {
		t.Errorf("after %v: %+v %v", took, ended.Details, err)
	}
}
