package websock

import (
	"crypto/sha1" //nolint:gosec // the protocol's hash (RFC 6455, section 1.3); it protects nothing
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/rollcallhq/rollcall/api"
)

// keyGUID is appended to the client's key before it is hashed (RFC 6455, section 1.3).
const keyGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// IsUpgrade tells whether the request asks for a WebSocket.
func IsUpgrade(r *http.Request) bool {
	return hasToken(r.Header["Connection"], "upgrade") && hasToken(r.Header["Upgrade"], "websocket")
}

// Check returns a validation_error that says what is wrong with an upgrade request (RFC 6455, section 4.2.1), without answering it.
func Check(r *http.Request) error {
	key := r.Header["Sec-Websocket-Key"]
	version := r.Header["Sec-Websocket-Version"]
	switch {
	case r.Method != http.MethodGet:
		return api.Errorf(api.CodeValidation, "a WebSocket upgrade is a GET request")
	case r.ProtoMajor != 1 || r.ProtoMinor < 1:
		return api.Errorf(api.CodeValidation, "a WebSocket upgrade needs HTTP/1.1")
	case !hasToken(r.Header["Connection"], "upgrade"):
		return api.Errorf(api.CodeValidation, "Connection: must contain Upgrade")
	case !hasToken(r.Header["Upgrade"], "websocket"):
		return api.Errorf(api.CodeValidation, "Upgrade: must contain websocket")
	case len(version) != 1 || version[0] != "13":
		return api.Errorf(api.CodeValidation, "Sec-WebSocket-Version: must be 13")
	case len(key) != 1 || !validKey(key[0]):
		return api.Errorf(api.CodeValidation, "Sec-WebSocket-Key: must be given once, the base64 of 16 bytes")
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		// Bytes after the head would be read as frames by us and as a body by a proxy in between.
		return api.Errorf(api.CodeValidation, "a WebSocket upgrade has no body")
	}
	return nil
}

func validKey(key string) bool {
	raw, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(key) == 24 && len(raw) == 16
}

// hasToken tells whether a header that is a list of tokens, in one line or several, contains token in any case.
func hasToken(lines []string, token string) bool {
	for _, line := range lines {
		for t := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(t), token) {
				return true
			}
		}
	}
	return false
}

// offers tells whether the client offered the subprotocol; subprotocols are compared exactly.
func offers(r *http.Request, subprotocol string) bool {
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for t := range strings.SplitSeq(line, ",") {
			if strings.TrimSpace(t) == subprotocol {
				return true
			}
		}
	}
	return false
}

// Upgrade takes over the connection and answers 101, with the headers that w already has. The request must have passed Check.
// After an error the response is spent. The handler may return while the Conn is in use.
func Upgrade(w http.ResponseWriter, r *http.Request, cfg Config) (*Conn, error) {
	answer := answerUpgrade(w, r, cfg)
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return nil, fmt.Errorf("take over connection: %w", err)
	}
	// The server's buffers (8 KiB) are garbage as soon as this returns: what they hold goes first into the new connection.
	// The server's deadlines do not outlive it either: every read and write sets its own.
	early, _ := rw.Peek(rw.Reader.Buffered()) // what is buffered can be had
	boundSendBuffer(conn, cfg.SendBuffer)
	c := newConn(conn, cfg, append([]byte(nil), early...))
	if err := c.Send([]byte(answer)); err != nil {
		return nil, fmt.Errorf("answer upgrade: %w", err)
	}
	return c, nil
}

// boundSendBuffer ignores errors: a connection that is gone says so at the first write.
func boundSendBuffer(conn net.Conn, bytes int) {
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	if tcp, ok := conn.(*net.TCPConn); ok && bytes > 0 {
		_ = tcp.SetWriteBuffer(bytes)
	}
}

func answerUpgrade(w http.ResponseWriter, r *http.Request, cfg Config) string {
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + keyGUID)) //nolint:gosec // as above
	var b strings.Builder
	b.WriteString("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")
	b.WriteString("Sec-WebSocket-Accept: " + base64.StdEncoding.EncodeToString(sum[:]) + "\r\n")
	if cfg.Subprotocol != "" && offers(r, cfg.Subprotocol) {
		b.WriteString("Sec-WebSocket-Protocol: " + cfg.Subprotocol + "\r\n")
	}
	_ = w.Header().Write(&b) // a strings.Builder does not fail
	b.WriteString("\r\n")
	return b.String()
}
