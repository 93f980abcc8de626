//go:build linux

package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// filesEnv is how many files a child may open.
const filesEnv = "ROLLCALL_TEST_FILES"

func init() {
	n, err := strconv.ParseUint(os.Getenv(filesEnv), 10, 32)
	if err != nil {
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
		panic(err)
	}
}

// ask makes a request on a connection of its own, which must be answered 200 within a second, whatever else goes on.
func ask(t *testing.T, rawURL, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, rawURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Errorf("%v", err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("GET %s: %d, %v", rawURL, resp.StatusCode, err)
	}
	return string(body)
}

// operatorsAreServed: every listener answers within a second, and the management API says how many sessions there are.
func operatorsAreServed(t *testing.T, s *testkit.Server, sessions int) {
	t.Helper()
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		ask(t, s.Ops+path, "")
	}
	var list api.LiveList
	if err := json.Unmarshal([]byte(ask(t, s.URL+livePath(url.Values{}), testkit.Key)), &list); err != nil || list.Total != sessions {
		t.Errorf("the list has %d sessions, want %d (%v)", list.Total, sessions, err)
	}
	var items api.SessionList
	if err := json.Unmarshal([]byte(ask(t, s.URL+sessionsPath(testkit.App, "?details=true&limit=10"), testkit.Key)), &items); err != nil ||
		len(items.Items) != min(10, sessions) { // details come from the database
		t.Errorf("%d items (%v)", len(items.Items), err)
	}
}

func metric(t *testing.T, s *testkit.Server, series string) float64 {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(ask(t, s.Ops+"/metrics", ""))
	if m == nil {
		t.Fatalf("no metric %s", series)
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// occupy holds n plain connections to an address open, each after having sent what send says.
func occupy(t *testing.T, addr string, n int, send func(i int) string) (leave func()) {
	t.Helper()
	conns := make([]net.Conn, n)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := w; i < n; i += 8 {
				conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
				if err != nil {
					t.Errorf("a connection was not accepted: %v", err)
					return
				}
				conns[i] = conn
				_, _ = io.WriteString(conn, send(i)) // it may have been closed to make room
			}
		})
	}
	wg.Wait()
	return func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}
}

// TestOperatorsNeverStarve: clients that take every descriptor they can get, with sessions and with connections that ask for nothing
// or ask slowly, on both listeners, keep neither health checks nor the management API from being answered within a second. At the
// limit of sessions an upgrade is told when to come back; when the crowd has left everything is as before.
func TestOperatorsNeverStarve(t *testing.T) {
	t.Setenv(filesEnv, "300")
	s, process := startChild(t, t.TempDir())
	limit := int(metric(t, s, `rollcall_limit{limit="max-sessions"}`))
	if limit < 128 || limit > 300-64 {
		t.Fatalf("%d sessions in 300 descriptors", limit)
	}
	held := make([]*session, limit)
	for i := range held {
		held[i] = mustOpen(t, s, hello(testkit.Token(t, map[string]any{"sub": fmt.Sprint("user", i)}), nil))
	}
	refusedForWantOfRoom(t, s)

	main, ops := strings.TrimPrefix(s.URL, "http://"), strings.TrimPrefix(s.Ops, "http://")
	get := "GET / HTTP/1.1\r\nHost: h\r\n"
	for name, send := range map[string]func(int) string{
		"silent":     func(int) string { return "" },
		"slow heads": func(i int) string { return get[:i%len(get)] },
		"slow bodies": func(int) string {
			return "POST /api/v1/applications HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{"
		},
		"huge heads": func(int) string { return get + "X: " + strings.Repeat("x", 40<<10) + "\r\n\r\n" },
		"idle":       func(int) string { return get + "\r\n" },
	} {
		t.Run(name, func(t *testing.T) {
			leaveMain, leaveOps := occupy(t, main, 400, send), occupy(t, ops, 200, send)
			defer leaveOps()
			defer leaveMain()
			operatorsAreServed(t, s, limit)
			w := watch(t, s, testkit.Key, url.Values{}, 0)
			defer w.conn.CloseNow()
		})
	}
	for _, name := range []string{"connections", "ops-connections", "max-sessions"} {
		if v := metric(t, s, fmt.Sprintf("rollcall_limit_refusals_total{limit=%q}", name)); v == 0 {
			t.Errorf("nothing counted for %s", name)
		}
	}
	for i, c := range held {
		select {
		case <-c.ended:
			t.Fatalf("session %d was ended", i)
		default:
		}
	}
	for _, c := range held {
		c.conn.CloseNow()
	}
	testkit.Eventually(t, "the descriptors are free again", func() bool { return metric(t, s, "process_open_fds") < 64 })
	operatorsAreServed(t, s, 0)
	mustOpen(t, s, hello(testkit.Token(t, nil), nil))
	if err := process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the process is gone: %v", err)
	}
}

// refusedForWantOfRoom: one upgrade more is a 503 in the session protocol's envelope, with a time to come back.
func refusedForWantOfRoom(t *testing.T, s *testkit.Server) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", api.ConnectPath)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var e api.SessionsError
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || resp.StatusCode != http.StatusServiceUnavailable ||
		e.Code != api.CodeUnavailable || e.StatusCode != http.StatusServiceUnavailable || seconds < 1 || seconds > 60 {
		t.Errorf("one session too many: %d %v %+v (%v)", resp.StatusCode, resp.Header, e, err)
	}
}

// TestOutOfDescriptors: when something else takes what was left, so that nothing can be accepted, sessions go on, the server
// neither ends nor spins, and it accepts again when there are descriptors again.
func TestOutOfDescriptors(t *testing.T) {
	s, process := startChild(t, t.TempDir())
	held := mustOpen(t, s, hello(testkit.Token(t, nil), nil))
	kept := &http.Client{Timeout: 5 * time.Second} // its connection stays, so that the metrics can be read
	errors := func() float64 {
		resp, err := kept.Get(s.Ops + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		m := regexp.MustCompile(`rollcall_http_accept_errors_total\{limit="connections"\} (\S+)`).FindSubmatch(body)
		if err != nil || m == nil {
			t.Fatalf("no metric: %v", err)
		}
		v, _ := strconv.ParseFloat(string(m[1]), 64)
		return v
	}
	if v := errors(); v != 0 {
		t.Fatalf("%v errors before", v)
	}
	before := limitFiles(t, process.Pid, syscall.Rlimit{Cur: 8, Max: 20_000})
	began := time.Now()
	waiting, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://")) // the kernel takes it, the server cannot yet
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	fmt.Fprint(waiting, "GET /openapi.yaml HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	testkit.Eventually(t, "eight attempts", func() bool { return errors() >= 8 })
	if took := time.Since(began); took < 500*time.Millisecond { // 5 + 10 + … + 320 ms
		t.Errorf("eight attempts in %s: it spins", took)
	}
	if err := held.send(t.Context(), map[string]any{"type": api.TypeActivity}); err != nil {
		t.Errorf("the session: %v", err)
	}
	limitFiles(t, process.Pid, before)
	waiting.SetDeadline(time.Now().Add(10 * time.Second))
	if resp, err := http.ReadResponse(bufio.NewReader(waiting), nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the connection that waited: %v", err)
	}
	operatorsAreServed(t, s, 1)
}

// limitFiles changes a process's descriptor limit and returns what it was.
func limitFiles(t *testing.T, pid int, l syscall.Rlimit) (before syscall.Rlimit) {
	t.Helper()
	_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(&l)),
		uintptr(unsafe.Pointer(&before)), 0, 0)
	if errno != 0 {
		t.Fatal(errno)
	}
	return before
}
