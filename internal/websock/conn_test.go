package websock

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/rollcallhq/rollcall/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testKey = "dGhlIHNhbXBsZSBub25jZQ==" // RFC 6455, section 1.3

func request(edit func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodGet, api.ConnectPath, nil)
	r.Header.Set("Connection", "keep-alive, Upgrade")
	r.Header.Set("Upgrade", "WebSocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", testKey)
	if edit != nil {
		edit(r)
	}
	return r
}

func TestCheck(t *testing.T) {
	header := func(name string, values ...string) func(*http.Request) {
		return func(r *http.Request) { r.Header[http.CanonicalHeaderKey(name)] = values }
	}
	tests := []struct {
		name    string
		edit    func(*http.Request)
		message string // "" = accepted
	}{
		{"plain", nil, ""},
		{"tokens in several lines", header("Connection", "keep-alive", "UPGRADE"), ""},
		{"POST", func(r *http.Request) { r.Method = http.MethodPost }, "GET"},
		{"HTTP/1.0", func(r *http.Request) { r.ProtoMinor = 0 }, "HTTP/1.1"},
		{"HTTP/2", func(r *http.Request) { r.ProtoMajor, r.ProtoMinor = 2, 0 }, "HTTP/1.1"},
		{"no Connection", header("Connection"), "Connection"},
		{"Connection of another token", header("Connection", "upgraded"), "Connection"},
		{"no Upgrade", header("Upgrade"), "Upgrade"},
		{"Upgrade to h2c", header("Upgrade", "h2c"), "Upgrade"},
		{"no version", header("Sec-WebSocket-Version"), "Version"},
		{"version 8", header("Sec-WebSocket-Version", "8"), "Version"},
		{"two versions", header("Sec-WebSocket-Version", "13", "13"), "Version"},
		{"no key", header("Sec-WebSocket-Key"), "Key"},
		{"empty key", header("Sec-WebSocket-Key", ""), "Key"},
		{"two keys", header("Sec-WebSocket-Key", testKey, testKey), "Key"},
		{"key of 15 bytes", header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAA"), "Key"},
		{"key of 18 bytes", header("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAAAA"), "Key"},
		{"key that is no base64", header("Sec-WebSocket-Key", "!!!!!!!!!!!!!!!!!!!!!!!!"), "Key"},
		{"body by length", func(r *http.Request) { r.ContentLength = 5 }, "body"},
		{"body by chunks", func(r *http.Request) { r.ContentLength, r.TransferEncoding = -1, []string{"chunked"} }, "body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := Check(request(tt.edit))
			if tt.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if api.CodeOf(err) != api.CodeValidation || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("got %v, want a validation_error that names %s", err, tt.message)
			}
		})
	}
	if !IsUpgrade(request(nil)) || IsUpgrade(httptest.NewRequest(http.MethodGet, "/", nil)) {
		t.Error("IsUpgrade")
	}
}

// serve runs fn on every upgraded connection and returns the server's address. The server waits for all of them.
func serve(t *testing.T, cfg Config, fn func(*Conn)) string {
	t.Helper()
	var wg sync.WaitGroup
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1) // before the connection is taken over: until then the server waits for it
		defer wg.Done()
		if err := Check(r); err != nil {
			t.Error(err)
			return
		}
		w.Header().Set("X-Request-Id", "r1")
		c, err := Upgrade(w, r, cfg)
		if err != nil {
			t.Error(err)
			return
		}
		wg.Go(func() {
			fn(c)
			_ = c.Close()
		})
	}))
	t.Cleanup(func() { srv.Close(); wg.Wait() })
	return srv.Listener.Addr().String()
}

// dialRaw upgrades with bytes of its own and returns the connection with its reader; after is sent in the same write.
func dialRaw(t *testing.T, addr, headers string, after []byte) (net.Conn, *bufio.Reader, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	head := "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: " + testKey + "\r\n" + headers + "\r\n"
	if _, err := conn.Write(append([]byte(head), after...)); err != nil {
		t.Fatal(err)
	}
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	return conn, br, resp
}

// readFrame reads an unmasked frame of at most 125 bytes, or of 16 bits of length.
func readFrame(t *testing.T, r io.Reader) (byte, string) {
	t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		t.Fatalf("read frame: %v", err)
	}
	n := int(head[1])
	if n == 126 {
		var ext [2]byte
		if _, err := io.ReadFull(r, ext[:]); err != nil {
			t.Fatal(err)
		}
		n = int(binary.BigEndian.Uint16(ext[:]))
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	return head[0], string(body)
}

func echo(c *Conn) {
	for {
		msg, err := c.Receive(time.Time{})
		if end := (*CloseError)(nil); errors.As(err, &end) {
			c.CloseWith(nil, end.Code, "", time.Second)
			return
		}
		if err != nil {
			return
		}
		switch msg.Op {
		case Text:
			err = c.Send(AppendText(nil, msg.Data))
		case Ping:
			err = c.Send(AppendControl(nil, Pong, msg.Data))
		}
		if err != nil {
			return
		}
	}
}

func TestUpgrade(t *testing.T) {
	addr := serve(t, Config{Subprotocol: "a.v1"}, echo)
	tests := []struct{ name, headers, subprotocol string }{
		{"none offered", "", ""},
		{"offered", "Sec-WebSocket-Protocol: a.v1\r\n", "a.v1"},
		{"among others", "Sec-WebSocket-Protocol: x, a.v1,y\r\n", "a.v1"},
		{"in a second line", "Sec-WebSocket-Protocol: x\r\nSec-WebSocket-Protocol: a.v1\r\n", "a.v1"},
		{"in other case", "Sec-WebSocket-Protocol: A.V1\r\n", ""},
		{"another", "Sec-WebSocket-Protocol: b.v1\r\n", ""},
		{"extensions are not taken", "Sec-WebSocket-Extensions: permessage-deflate\r\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			// The first message comes in the same packet as the request.
			_, br, resp := dialRaw(t, addr, tt.headers, frame(0x81, "early"))
			if resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatal(resp.Status)
			}
			if got := resp.Header.Get("Sec-WebSocket-Accept"); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
				t.Errorf("accept key %s", got)
			}
			if got := resp.Header.Get("Sec-WebSocket-Protocol"); got != tt.subprotocol {
				t.Errorf("subprotocol %q, want %q", got, tt.subprotocol)
			}
			if resp.Header.Get("Sec-WebSocket-Extensions") != "" || resp.Header.Get("X-Request-Id") != "r1" {
				t.Errorf("headers %v", resp.Header)
			}
			if op, body := readFrame(t, br); op != 0x81 || body != "early" {
				t.Errorf("got %x %q", op, body)
			}
		})
	}
}

func TestServerTimeoutsDoNotOutliveTheUpgrade(t *testing.T) {
	var wg sync.WaitGroup
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := Upgrade(w, r, Config{}); err == nil {
			wg.Go(func() { echo(c) })
		}
	}))
	srv.Config.ReadTimeout, srv.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	srv.Start()
	defer wg.Wait()
	defer srv.Close()
	conn, br, _ := dialRaw(t, srv.Listener.Addr().String(), "", nil)
	time.Sleep(100 * time.Millisecond)
	_, _ = conn.Write(frame(0x81, "late"))
	if _, body := readFrame(t, br); body != "late" {
		t.Error(body)
	}
	_ = conn.Close()
}

// TestTimeoutLosesNothing reads with a deadline that passes after every byte of a fragmented message.
func TestTimeoutLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, Config{}, nil)
		stream := join(frame(0x01, "κόσ"), frame(0x89, "ping"), frame(0x80, strings.Repeat("me", 400)))
		go func() {
			for _, b := range stream {
				time.Sleep(time.Second)
				_, _ = theirs.Write([]byte{b})
			}
		}()
		var got []string
		timeouts := 0
		for len(got) < 2 {
			msg, err := c.Receive(time.Now().Add(300 * time.Millisecond))
			if errors.Is(err, ErrTimeout) {
				timeouts++
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(msg.Data))
		}
		if got[0] != "ping" || got[1] != "κόσ"+strings.Repeat("me", 400) || timeouts < len(stream) {
			t.Errorf("%d timeouts, %q", timeouts, got)
		}
		_ = c.Close()
		_ = theirs.Close()
	})
}

func TestEndOfData(t *testing.T) {
	ours, theirs := net.Pipe()
	c := newConn(ours, Config{}, nil)
	_ = theirs.Close()
	if _, err := c.Receive(time.Time{}); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
	_ = c.Close()
	if _, err := c.Receive(time.Time{}); err == nil {
		t.Error("Receive after Close")
	}
	if err := c.Send(AppendText(nil, nil)); err == nil {
		t.Error("Send after Close")
	}
	if c.BeginClose(nil, 1000, "") {
		t.Error("BeginClose after Close")
	}
}

func TestSendTimesOutAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, Config{WriteTimeout: 3 * time.Second}, nil)
		start := time.Now()
		if err := c.Send(AppendText(nil, []byte("x"))); err == nil || time.Since(start) != 3*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the connection is still open: %v", err)
		}
	})
}

// TestBeginCloseIsBounded: a Send that is stuck, a peer that reads nothing, and the close still ends within its second.
func TestBeginCloseIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, Config{}, nil)
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Send(AppendText(nil, []byte("stuck"))) })
		synctest.Wait()
		start := time.Now()
		c.CloseWith(AppendText(nil, []byte("bye")), 4100, "", 5*time.Second)
		wg.Wait()
		if took := time.Since(start); took > 2*finalTimeout {
			t.Errorf("took %v", took)
		}
		_ = theirs.Close()
	})
}

// TestFramesThenClose: a close finds a Send under way; the peer gets whole frames, in order, the close frame last.
func TestFramesThenClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := newConn(ours, Config{}, nil)
		var wg sync.WaitGroup
		wg.Go(func() { _ = c.Send(AppendText(nil, []byte("first"))) })
		synctest.Wait()
		wg.Go(func() { c.CloseWith(AppendText(nil, []byte("last")), 4103, strings.Repeat("ü", 100), time.Second) })
		synctest.Wait()
		wg.Go(func() { c.CloseWith(AppendText(nil, []byte("never")), 4100, "", time.Second) })
		synctest.Wait()
		if _, body := readFrame(t, theirs); body != "first" {
			t.Error(body)
		}
		if _, body := readFrame(t, theirs); body != "last" {
			t.Error(body)
		}
		op, body := readFrame(t, theirs)
		if op != 0x88 || body != closeBody(4103, strings.Repeat("ü", 61)) {
			t.Errorf("close frame %x %q", op, body)
		}
		if err := c.Send(AppendText(nil, []byte("late"))); err == nil {
			t.Error("sent after the close frame")
		}
		start := time.Now()
		if _, err := theirs.Write(frame(0x88, closeBody(4103, ""))); err != nil {
			t.Error(err)
		}
		wg.Wait()
		if took := time.Since(start); took != 0 {
			t.Errorf("closed %v after the peer's close frame", took)
		}
		_ = theirs.Close()
	})
}

func TestCloseInterruptsReceive(t *testing.T) {
	for name, end := range map[string]func(*Conn){
		"CloseWith": func(c *Conn) { c.CloseWith(nil, 1001, "", 10*time.Millisecond) },
		"Close":     func(c *Conn) { _ = c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan error, 1)
			ready := make(chan *Conn, 1)
			addr := serve(t, Config{}, func(c *Conn) {
				ready <- c
				_, err := c.Receive(time.Now().Add(time.Hour))
				got <- err
			})
			dialRaw(t, addr, "", nil)
			end(<-ready)
			if err := <-got; !errors.Is(err, net.ErrClosed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestLastFramesSurviveUnreadData: the client is still sending when the server closes. Without the half-close and the reading on,
// the reset of the socket would take the last frames away.
func TestLastFramesSurviveUnreadData(t *testing.T) {
	addr := serve(t, Config{}, func(c *Conn) {
		if _, err := c.Receive(time.Time{}); err != nil {
			t.Error(err)
		}
		c.CloseWith(AppendText(nil, []byte("last words")), 4100, "why", 5*time.Second)
	})
	for range 20 {
		conn, br, _ := dialRaw(t, addr, "", nil)
		_, _ = conn.Write(frame(0x81, "go"))
		for range 64 {
			_, _ = conn.Write(frame(0x82, strings.Repeat("x", 10_000)))
		}
		time.Sleep(5 * time.Millisecond)
		if _, body := readFrame(t, br); body != "last words" {
			t.Fatal(body)
		}
		if op, body := readFrame(t, br); op != 0x88 || body != closeBody(4100, "why") {
			t.Fatalf("%x %q", op, body)
		}
		if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the close frame: %v", err)
		}
		_ = conn.Close()
	}
}

// TestBeginCloseNeverWaitsOnTCP fills the socket of a client that does not read. The rest of the final frames is sent by Linger.
func TestBeginCloseNeverWaitsOnTCP(t *testing.T) {
	closed := make(chan bool)
	addr := serve(t, Config{}, func(c *Conn) {
		big := AppendText(nil, bytes.Repeat([]byte("x"), 8<<20))
		c.BeginClose(big, 4100, "why")
		close(closed)
		c.Linger(10 * time.Second)
	})
	conn, br, _ := dialRaw(t, addr, "", nil)
	<-closed // the client has not read a byte; a write that waits for it would have failed at its deadline
	all, err := io.ReadAll(br)
	if err != nil || !bytes.HasSuffix(all, []byte("why")) || len(all) != 10+8<<20+2+5 {
		t.Errorf("read %d bytes, %v", len(all), err)
	}
	_ = conn.Close()
}

func TestViolationIsAnswered(t *testing.T) {
	addr := serve(t, Config{}, echo)
	conn, br, _ := dialRaw(t, addr, "", frame(0x83, ""))
	if op, body := readFrame(t, br); op != 0x88 || body != closeBody(1002, "") {
		t.Errorf("%x %q", op, body)
	}
	_ = conn.Close()
}

// TestInterop has an independent implementation at the other end.
func TestInterop(t *testing.T) {
	addr := serve(t, Config{Subprotocol: "a.v1", MaxMessage: 1 << 20}, echo)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, "ws://"+addr, &websocket.DialOptions{Subprotocols: []string{"a.v1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	conn.SetReadLimit(1 << 20)
	if conn.Subprotocol() != "a.v1" {
		t.Error(conn.Subprotocol())
	}
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 300_000} {
		want := strings.Repeat("µ", n/2)
		if err := conn.Write(ctx, websocket.MessageText, []byte(want)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.Read(ctx); err != nil || string(got) != want {
			t.Fatalf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
	w, err := conn.Writer(ctx, websocket.MessageText) // a frame a Write
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"a", "b", "c"} {
		_, _ = io.WriteString(w, part)
	}
	_ = w.Close()
	if _, got, err := conn.Read(ctx); err != nil || string(got) != "abc" {
		t.Fatal(string(got), err)
	}
	ctx2 := conn.CloseRead(ctx)
	if err := conn.Ping(ctx2); err != nil {
		t.Error(err)
	}
	if err := conn.Close(4001, "done"); err != nil {
		t.Errorf("close handshake: %v", err)
	}
}

func TestAppend(t *testing.T) {
	long := bytes.Repeat([]byte("x"), 70_000)
	tests := []struct {
		name      string
		got, want []byte
	}{
		{"short", AppendText([]byte("!"), []byte("ab")), []byte("!\x81\x02ab")},
		{"126", AppendText(nil, long[:126])[:4], []byte{0x81, 126, 0, 126}},
		{"64 KiB", AppendText(nil, long)[:10], []byte{0x81, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70}},
		{"ping", AppendControl(nil, Ping, []byte("p")), []byte("\x89\x01p")},
		{"pong is cut", AppendControl(nil, Pong, long)[:2], []byte{0x8a, 125}},
		{"close", appendClose(nil, 4100, "r"), []byte("\x88\x03\x10\x04r")},
		{"close without a code", appendClose(nil, NoStatus, "r"), []byte("\x88\x00")},
	}
	for _, tt := range tests {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s: got %x, want %x", tt.name, tt.got, tt.want)
		}
	}
}
