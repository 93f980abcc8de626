package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/manage"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// drainSessionsEnv raises the number of sessions of the drain tests, to 10,000 on a machine that is not busy.
const drainSessionsEnv = "ROLLCALL_TEST_DRAIN_SESSIONS"

func drainSessions(t *testing.T, least int) int {
	t.Helper()
	n, err := strconv.Atoi(cmp.Or(os.Getenv(drainSessionsEnv), strconv.Itoa(least)))
	if err != nil {
		t.Fatalf("%s: %v", drainSessionsEnv, err)
	}
	return n
}

// process is a `rollcall serve` of its own.
type process struct {
	*exec.Cmd
	draining chan struct{} // closed when it has said so
}

// serveProcess starts `rollcall serve` on a data directory.
func serveProcess(t *testing.T, data string, args ...string) (*testkit.Server, *process) {
	t.Helper()
	file := filepath.Join(data, "bootstrap.yaml")
	if err := os.WriteFile(file, []byte(testkit.Bootstrap(testkit.Config{})), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("rollcall", append([]string{"serve", "--listen", "127.0.0.1:0", "--ops-listen", "", "--data", data,
		"--node", "srv-01", "--bootstrap", file, "--hello-timeout", "1m"}, args...)...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &process{cmd, make(chan struct{})}
	serving, lines := regexp.MustCompile(`msg=serving addr=(\S+)`), bufio.NewScanner(log)
	for lines.Scan() {
		if m := serving.FindStringSubmatch(lines.Text()); m != nil {
			go p.follow(lines)
			return &testkit.Server{URL: "http://" + m[1], Data: data}, p
		}
	}
	t.Fatal("the server did not start")
	return nil, nil
}

// follow reads the log to the end of the process.
func (p *process) follow(lines *bufio.Scanner) {
	for lines.Scan() {
		if strings.Contains(lines.Text(), "msg=draining") {
			close(p.draining)
		}
	}
}

// held is a session of a stock WebSocket client, read to its end.
type held struct {
	id    string
	last  api.Disconnect
	close websocket.StatusCode // -1 without a close frame
}

// hold opens n sessions, half of them with a token, and returns them; done waits until all have ended.
func hold(t *testing.T, s *testkit.Server, n int) (sessions []*held, done func()) {
	t.Helper()
	sessions = make([]*held, n)
	var reading, opening sync.WaitGroup
	next := make(chan int)
	for range 64 {
		opening.Go(func() {
			for i := range next {
				conn, _, err := websocket.Dial(t.Context(), s.WebSocket(api.ConnectPath), nil)
				if err != nil {
					t.Errorf("session %d: %v", i, err)
					continue
				}
				hello := api.Hello{Type: api.TypeHello, PublishableKey: testkit.PublishableKey}
				if i%2 == 0 {
					hello = api.Hello{Type: api.TypeHello, Token: testkit.Token(t, map[string]any{"sub": fmt.Sprint("user", i)})}
				}
				text, _ := json.Marshal(hello)
				if err := conn.Write(t.Context(), websocket.MessageText, text); err != nil {
					t.Errorf("session %d: %v", i, err)
				}
				var welcome api.Welcome
				if _, b, err := conn.Read(t.Context()); err != nil || json.Unmarshal(b, &welcome) != nil || welcome.Type != api.TypeWelcome {
					t.Errorf("session %d is not welcome: %s %v", i, b, err)
				}
				h := &held{id: welcome.SessionID.String()}
				sessions[i] = h
				reading.Go(func() { h.read(conn) })
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	opening.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return sessions, reading.Wait
}

func (h *held) read(conn *websocket.Conn) {
	defer conn.CloseNow()
	for {
		_, b, err := conn.Read(context.Background())
		if err != nil {
			h.close = websocket.CloseStatus(err)
			return
		}
		_ = json.Unmarshal(b, &h.last) // what it is not, the test sees
	}
}

// ends returns how many of the application's sessions have ended for each reason, read page by page from a new life of the server.
func ends(t *testing.T, data string) (byID map[string]api.EndReason, live int) {
	t.Helper()
	s := testkit.Start(t, testkit.Config{Data: data, Manage: manage.Limits{RequestsPerSecond: 1e6, RequestBurst: 1e6}})
	byID = map[string]api.EndReason{}
	for cursor := ""; ; {
		var page api.SessionList
		s.Get(t, testkit.Key, "/api/v1/applications/"+testkit.App.String()+"/sessions?status=all&details=true&limit=1000"+cursor, &page)
		for _, it := range page.Items {
			byID[it.ID.String()] = it.Details.EndReason
			if it.Status == api.StatusActive {
				live++
			}
		}
		if page.NextCursor == "" {
			return byID, live
		}
		cursor = "&cursor=" + page.NextCursor
	}
}

// TestDrainUnderSessions: SIGTERM under many sessions tells every one when to come back, spread evenly, closes every record, and ends
// with 0 within --drain.
func TestDrainUnderSessions(t *testing.T) {
	const drain = 20 * time.Second
	data, n := t.TempDir(), drainSessions(t, 2000)
	s, cmd := serveProcess(t, data, "--drain", drain.String())
	sessions, done := hold(t, s, n)
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	done()
	told := time.Since(began)
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	if took := time.Since(began); took > drain {
		t.Errorf("the drain took %s", took)
	}
	var tenths [10]int
	for _, h := range sessions {
		d := h.last
		if d.Type != api.TypeDisconnect || d.Code != api.CloseGoingAway || !d.Reconnect || d.Reauthenticate || h.close != 1001 ||
			d.RetryAfterMs < 1 || d.RetryAfterMs > (drain/2).Milliseconds() {
			t.Fatalf("session %s was told %+v, and closed with %d", h.id, d, h.close)
		}
		tenths[(d.RetryAfterMs-1)*10/(drain/2).Milliseconds()]++
	}
	for i, k := range tenths { // each has n/10, give or take far more than chance
		if k < n/20 || k > n/10+n/20 {
			t.Errorf("%d of %d sessions come back in tenth %d of the time: %v", k, n, i, tenths)
		}
	}
	byID, live := ends(t, data)
	if len(byID) != n || live != 0 {
		t.Errorf("%d records, %d of them live; want %d", len(byID), live, n)
	}
	for _, h := range sessions {
		if byID[h.id] != api.EndNodeDraining {
			t.Fatalf("session %s is recorded as %q", h.id, byID[h.id])
		}
	}
	t.Logf("%d sessions: told in %s, gone in %s", n, told.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// TestSecondSignalUnderSessions: a second SIGTERM does not wait for the drain; what it left open is found at the next start.
func TestSecondSignalUnderSessions(t *testing.T) {
	data, n := t.TempDir(), drainSessions(t, 200)
	s, cmd := serveProcess(t, data, "--drain", "2m", "--drain-delay", "1m")
	sessions, done := hold(t, s, n)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-cmd.draining
	time.Sleep(2 * sameSignal) // sooner, a second one would count as the same
	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	err := cmd.Wait()
	if took := time.Since(began); cmd.ProcessState.ExitCode() != exitFailed || took > 10*time.Second {
		t.Errorf("after %s: %v", took, err)
	}
	done()
	byID, live := ends(t, data)
	if len(byID) != n || live != 0 {
		t.Errorf("%d records, %d of them live; want %d", len(byID), live, n)
	}
	for _, h := range sessions {
		if byID[h.id] != api.EndServerStopped || strings.Contains(h.last.Type, api.TypeDisconnect) {
			t.Fatalf("session %s is recorded as %q and was told %+v", h.id, byID[h.id], h.last)
		}
	}
}
