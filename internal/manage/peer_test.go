package manage_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
)

// peer is the client's end of a stream: an independent implementation of RFC 6455, and the reconstruction that the document
// describes.
type peer struct {
	k    *kit
	conn *websocket.Conn
	// The page, after every message that was read.
	view api.View
	seen []string // types of the messages
}

func (k *kit) dial(key, query string) (*peer, error) {
	k.t.Helper()
	conn, resp, err := k.upgrade(key, query)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", err, resp)
	}
	conn.SetReadLimit(1 << 20)
	return &peer{k: k, conn: conn}, nil
}

func (k *kit) upgrade(key, query string) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	header := http.Header{}
	if key != "-" {
		header.Set("Authorization", "Bearer "+key)
	}
	return websocket.Dial(ctx, k.server.URL+api.LivePath+"?"+query, &websocket.DialOptions{HTTPHeader: header, HTTPClient: k.server.Client()})
}

// dialRefused returns the code of the HTTP error that an upgrade gets.
func (k *kit) dialRefused(key, query string) api.Code {
	k.t.Helper()
	return k.dialRefusal(key, query).Code
}

// dialRefusal returns the HTTP error that an upgrade gets.
func (k *kit) dialRefusal(key, query string) (e api.LiveError) {
	k.t.Helper()
	conn, resp, err := k.upgrade(key, query)
	if err == nil {
		_ = conn.CloseNow()
		return e
	}
	if resp == nil {
		k.t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(body, &e); err != nil || e.Code.Status() != resp.StatusCode {
		k.t.Errorf("%d %s", resp.StatusCode, body)
	}
	req, _ := http.NewRequestWithContext(k.t.Context(), http.MethodGet, k.server.URL+api.LivePath+"?"+query, nil)
	k.hold(req, answer{resp.StatusCode, resp.Header, body})
	return e
}

// watch opens a stream and reads its init.
func (k *kit) watch(key, query string) *peer {
	k.t.Helper()
	p, err := k.dial(key, query)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(p.close)
	if kind := p.read(); kind != api.TypeInit {
		k.t.Fatalf("first message is %s", kind)
	}
	return p
}

func (p *peer) close() { _ = p.conn.CloseNow() }

func (p *peer) next(wait time.Duration) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	kind, data, err := p.conn.Read(ctx)
	if err == nil && kind != websocket.MessageText {
		err = fmt.Errorf("a %s message", kind)
	}
	return data, err
}

// read reads one message, applies it and returns its type.
func (p *peer) read() string {
	p.k.t.Helper()
	data, err := p.next(5 * time.Second)
	if err != nil {
		p.k.t.Fatalf("after %v: %v", p.seen, err)
	}
	return p.apply(data)
}

// apply takes a message over, strictly: what does not fit the page fails the test.
func (p *peer) apply(data json.RawMessage) string {
	p.k.t.Helper()
	var m struct {
		Type     string       `json:"type"`
		Row      api.Row      `json:"row"`
		ServerID api.ServerID `json:"serverId"`
		Value    api.Millis   `json:"value"`
		api.Counts
	}
	if err := json.Unmarshal(data, &m); err != nil {
		p.k.t.Fatal(err)
	}
	p.seen = append(p.seen, m.Type)
	at := func(id api.ServerID) int {
		return slices.IndexFunc(p.view.Items, func(r api.Row) bool { return r.ServerID == id })
	}
	switch m.Type {
	case api.TypeInit:
		var init api.Init
		if err := json.Unmarshal(data, &init); err != nil || !init.Success {
			p.k.t.Fatalf("%v: %s", err, data)
		}
		p.view = init.View
	case api.TypeAdded:
		if at(m.Row.ServerID) >= 0 {
			p.k.t.Fatalf("added twice: %s", data)
		}
		p.view.Items = append(p.view.Items, m.Row)
		slices.SortFunc(p.view.Items, func(a, b api.Row) int { return a.Position().Compare(b.Position()) })
	case api.TypeUpdated:
		if at(m.Row.ServerID) < 0 {
			p.k.t.Fatalf("updated what is not there: %s", data)
		}
		p.view.Items[at(m.Row.ServerID)] = m.Row
	case api.TypeRemoved:
		if at(m.ServerID) < 0 {
			p.k.t.Fatalf("removed what is not there: %s", data)
		}
		p.view.Items = slices.Delete(p.view.Items, at(m.ServerID), at(m.ServerID)+1)
	case api.TypeLastConnectionTime:
		p.view.LastConnectionTime = m.Value
	case api.TypeTotals:
		p.view.Counts = m.Counts
	case api.TypeError:
	default:
		p.k.t.Fatalf("unknown message %s", data)
	}
	return m.Type
}

// settle reads until the page is what the HTTP list says. Counts are compared when they were asked for.
func (p *peer) settle(query string) {
	p.k.t.Helper()
	want := get[api.LiveList](p.k, api.LivePath+"?"+query).View
	if !strings.Contains(query, "totals=true") {
		want.Counts = p.view.Counts
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		if reflect.DeepEqual(want, p.view) {
			return
		}
		data, err := p.next(time.Until(deadline))
		if err != nil {
			p.k.t.Fatalf("%v; (-list +stream):\n%s", err, cmp.Diff(want, p.view))
		}
		p.apply(data)
	}
}

// quiet checks that nothing comes.
func (p *peer) quiet(t testing.TB) {
	t.Helper()
	// A read that times out would close coder's connection: ask for something instead, and see that its answer comes first.
	p.send(`{"type":"nothing"}`)
	if code := p.error(); code != api.CodeValidation {
		t.Errorf("%s", code)
	}
}

func (p *peer) send(message string) {
	p.k.t.Helper()
	if err := p.conn.Write(p.k.t.Context(), websocket.MessageText, []byte(message)); err != nil {
		p.k.t.Fatal(err)
	}
}

// error reads one message, which must be an error, and returns its code.
func (p *peer) error() api.Code {
	p.k.t.Helper()
	data, err := p.next(5 * time.Second)
	if err != nil {
		p.k.t.Fatal(err)
	}
	return errorCode(p.k.t, data)
}

func errorCode(t testing.TB, data []byte) api.Code {
	t.Helper()
	var e api.StreamError
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil || e.Type != api.TypeError || e.Success || e.Message == "" {
		t.Fatalf("%v: %s is no error message", err, data)
	}
	return e.Code
}

// ended reads to the end of the stream: an error message, then the close frame.
func (p *peer) ended() (api.Code, websocket.StatusCode) {
	p.k.t.Helper()
	var code api.Code
	for {
		data, err := p.next(5 * time.Second)
		if err != nil {
			var closed websocket.CloseError
			if !errors.As(err, &closed) {
				p.k.t.Fatalf("no close frame: %v", err)
			}
			return code, closed.Code
		}
		if p.apply(data) == api.TypeError {
			code = errorCode(p.k.t, data)
		}
	}
}

// rawPeer is a client that does nothing by itself: it answers no ping, and reads only when told to.
func (k *kit) rawPeer(query string) (net.Conn, *bufio.Reader) {
	k.t.Helper()
	conn, err := net.Dial("tcp", k.server.Listener.Addr().String())
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { _ = conn.Close() })
	// Small, so that it is full soon; but above the loopback's segments, or the kernel would not open the window again.
	if err := conn.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		k.t.Fatal(err)
	}
	return conn, upgrade(k.t, conn, query)
}

// upgrade asks for a stream on a connection, and returns what it is to be read from.
func upgrade(t testing.TB, conn net.Conn, query string) *bufio.Reader {
	t.Helper()
	_, err := fmt.Fprintf(conn, "GET %s?%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", api.LivePath, query, fullKey)
	if err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReaderSize(conn, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	return r
}

// frame reads one unmasked frame.
func frame(r *bufio.Reader) (opcode byte, payload []byte, err error) {
	var head [2]byte
	if _, err = io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(head[1] & 0x7f)
	if more := map[int]int{126: 2, 127: 8}[n]; more > 0 {
		ext := make([]byte, more)
		if _, err = io.ReadFull(r, ext); err != nil {
			return 0, nil, err
		}
		n = 0
		for _, b := range ext {
			n = n<<8 | int(b)
		}
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return head[0] & 0x0f, payload, err
}
