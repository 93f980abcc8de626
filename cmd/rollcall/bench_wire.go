package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
)

// wire is a session held with as little as possible, so that the load generator leaves the machine to the server: one goroutine
// and half a kilobyte a session. Everything else in this program holds sessions with package client.
type wire struct {
	conn net.Conn
	buf  []byte // what was read and not consumed is buf[r:w]
	r, w int
}

// dialer opens wires from several loopback addresses, for one address has some 28,000 ports.
type dialer struct {
	target *url.URL
	next   atomic.Uint32
}

const (
	sourceAddresses = 16
	wireBuffer      = 512
	wireTimeout     = 30 * time.Second // a storm's hellos may queue
)

// sourceAddress returns the address of the n-th connection.
func sourceAddress(n int) [4]byte { return [4]byte{127, 0, 0, byte(2 + n%sourceAddresses)} }

func newDialer(base string) (*dialer, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" {
		return nil, usagef("--url: %q is not an http:// address, which the benchmark needs", base)
	}
	return &dialer{target: u}, nil
}

// open connects, says hello and returns the welcome. The token must not be larger than a frame.
func (d *dialer) open(ctx context.Context, hello []byte) (w *wire, welcome api.Welcome, err error) {
	w, err = d.dial(ctx, api.ConnectPath, "", ws.Dialer{Protocols: []string{api.Subprotocol}}, func(w *wire) error {
		err := w.text(hello)
		if err == nil {
			welcome, err = w.welcome()
		}
		return err
	})
	return w, welcome, err
}

// dial connects, upgrades and begins, all within wireTimeout.
func (d *dialer) dial(ctx context.Context, path, query string, up ws.Dialer, begin func(*wire) error) (*wire, error) {
	nd := net.Dialer{Timeout: wireTimeout}
	if host, err := netip.ParseAddr(d.target.Hostname()); err == nil && host.Is4() && host.IsLoopback() && severalLoopbacks {
		from := sourceAddress(int(d.next.Add(1)))
		nd.LocalAddr = &net.TCPAddr{IP: from[:]}
	}
	conn, err := nd.DialContext(ctx, "tcp", d.target.Host)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(wireTimeout)) // a TCP connection takes deadlines
	target := *d.target
	target.Path, target.RawQuery = path, query
	w, err := upgrade(conn, &target, up)
	if err == nil {
		err = begin(w)
	}
	if err != nil {
		_ = conn.Close() // it failed already
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{}) // as above
	return w, nil
}

// upgrade does the opening handshake (RFC 6455, section 4.1). What the server may have sent after it is kept.
func upgrade(conn net.Conn, target *url.URL, up ws.Dialer) (*wire, error) {
	up.ReadBufferSize, up.WriteBufferSize = 1024, 512
	var refused *refusedError
	up.OnStatusError = func(_ int, _ []byte, resp io.Reader) { refused = readRefusal(resp) }
	br, _, err := up.Upgrade(conn, target)
	if err != nil && refused != nil {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	w := &wire{conn: conn, buf: make([]byte, max(wireBuffer, up.ReadBufferSize))}
	if br != nil {
		w.w, err = io.ReadFull(br, w.buf[:br.Buffered()])
		ws.PutReader(br)
	}
	return w, err
}

func (w *wire) welcome() (welcome api.Welcome, err error) {
	for {
		frame, err := w.frame()
		if err != nil {
			return welcome, err
		}
		if isWelcome(frame) {
			return welcome, json.Unmarshal(frame, &welcome)
		}
		if refused := refusalIn(frame); refused != nil {
			return welcome, refused
		}
	}
}

func isWelcome(frame []byte) bool { return bytes.Contains(frame, []byte(`"type":"welcome"`)) }

// refusalIn reads a disconnect frame; nil when the frame is another one.
func refusalIn(frame []byte) *refusedError {
	if !bytes.Contains(frame, []byte(`"type":"disconnect"`)) {
		return nil
	}
	var d api.Disconnect
	_ = json.Unmarshal(frame, &d) // 0 says so
	return &refusedError{code: int(d.Code), wait: time.Duration(d.RetryAfterMs) * time.Millisecond, text: string(frame)}
}

// text sends a text frame in one write.
func (w *wire) text(payload []byte) error { return w.send(ws.OpText, payload) }

func (w *wire) send(op ws.OpCode, payload []byte) error {
	_, err := w.conn.Write(clientFrame(op, payload))
	return err
}

// clientFrame returns a frame. Its mask is zero: it hides nothing on loopback, and costs nothing.
func clientFrame(op ws.OpCode, payload []byte) []byte {
	frame := make([]byte, 0, len(payload)+14)
	frame = append(frame, 0x80|byte(op))
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	default:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n)) // frames are at most 16 KiB
	}
	frame = append(frame, 0, 0, 0, 0)
	return append(frame, payload...)
}

// errClosed is a close frame from the server.
var errClosed = errors.New("the server closed the connection")

// frame returns the next text frame's payload, valid until the next call, and answers pings on the way.
func (w *wire) frame() ([]byte, error) {
	for {
		op, payload, err := w.read()
		switch {
		case err != nil:
			return nil, err
		case op == ws.OpText:
			return payload, nil
		case op == ws.OpPing:
			if err := w.send(ws.OpPong, payload); err != nil {
				return nil, err
			}
		case op == ws.OpClose:
			return nil, errClosed
		}
	}
}

// read takes one unfragmented frame.
func (w *wire) read() (ws.OpCode, []byte, error) {
	for {
		op, payload, n := frameAt(w.buf[w.r:w.w])
		if n <= w.w-w.r {
			w.r += n
			return op, payload, nil
		}
		if err := w.need(n); err != nil {
			return 0, nil, err
		}
	}
}

// frameAt returns the server's frame that data begins with, and its length; more than there is when it is not whole, and then that
// much is needed to tell more.
func frameAt(data []byte) (op ws.OpCode, payload []byte, length int) {
	if len(data) < 2 {
		return 0, nil, 2
	}
	n, head := int(data[1]&0x7f), 2
	if n == 126 {
		if head = 4; len(data) < head {
			return 0, nil, head
		}
		n = int(binary.BigEndian.Uint16(data[2:]))
	}
	if length = head + n; len(data) < length {
		return 0, nil, length
	}
	return ws.OpCode(data[0] & 0x0f), data[head:length], length
}

// need makes n bytes available from r.
func (w *wire) need(n int) error {
	if w.w-w.r >= n {
		return nil
	}
	w.w = copy(w.buf, w.buf[w.r:w.w])
	w.r = 0
	if n > len(w.buf) {
		w.buf = append(w.buf, make([]byte, n-len(w.buf))...)
	}
	for w.w < n {
		m, err := w.conn.Read(w.buf[w.w:])
		if err != nil {
			return err
		}
		w.w += m
	}
	return nil
}

// refusedError is a server that would not open a session.
type refusedError struct {
	code int           // a close code, or an HTTP status
	wait time.Duration // what it asks of the client before it tries again; 0 = nothing
	text string
}

// Error implements error.
func (e *refusedError) Error() string {
	return fmt.Sprintf("the server refused with %d: %s", e.code, e.text)
}

// readRefusal reads the answer to an upgrade that was refused, as far as it comes.
func readRefusal(from io.Reader) *refusedError {
	resp, err := http.ReadResponse(bufio.NewReader(from), nil)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, wireBuffer))            // as above
	seconds, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16) // the server gives no dates
	return &refusedError{code: resp.StatusCode, wait: time.Duration(seconds) * time.Second, text: string(body)}
}

// ended waits for the server's disconnect and returns its code; 0 when the connection went without one.
func (w *wire) ended() api.CloseCode {
	for {
		frame, err := w.frame()
		if err != nil {
			return 0
		}
		if bytes.Contains(frame, []byte(`"type":"disconnect"`)) {
			var d api.Disconnect
			_ = json.Unmarshal(frame, &d) // 0 says so
			return d.Code
		}
	}
}

func (w *wire) close() { _ = w.conn.Close() } // gone is gone
