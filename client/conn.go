package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/rollcallhq/rollcall/api"
)

// conn is one connection of a session. One goroutine reads (and thereby answers pings); Run's goroutine does everything else.
type conn struct {
	s   *Session
	ws  *websocket.Conn
	ctx context.Context // of the connection; not ended by leaving, for bye has to be sent first
	end context.CancelCauseFunc

	frames  chan []byte   // closed by the reader, after ctx was ended with the reason
	silence time.Duration // the longest that the server may say nothing, pings included
	heard   atomic.Int64  // Unix milliseconds of the last frame or ping

	welcomed   time.Time
	renewAt    <-chan time.Time // when to ask Token again; nil = not before the server says so
	renewTries backoff
	refusal    *api.Error      // the last error frame: before welcome, it explains the disconnect that follows
	disconnect *api.Disconnect // the server's last word

	mu        sync.Mutex
	presented []string // tokens; an operator's disconnect denies them all
	renewing  bool     // an authorize is not answered yet
}

const (
	readLimit    = 4 * api.MaxFrame // far above what page 3 lets a server send
	maxPresented = 32
)

// dialWebSocket upgrades; a refusal is a *StatusError.
func dialWebSocket(ctx context.Context, url string, opts *websocket.DialOptions) (*websocket.Conn, error) {
	ws, resp, err := websocket.Dial(ctx, url, opts) //nolint:bodyclose // the library says that it never needs closing
	if err == nil {
		return ws, nil
	}
	if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, refusal(resp)
	}
	return nil, fmt.Errorf("connecting to the server: %w", err)
}

// dial connects and sends hello.
func dial(ctx context.Context, s *Session, hello api.Hello) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	c := &conn{s: s, frames: make(chan []byte, 16), silence: connectTimeout,
		renewTries: backoff{min: s.cfg.MinBackoff, max: s.cfg.MaxBackoff}}
	opts := &websocket.DialOptions{
		HTTPClient: s.cfg.HTTPClient, Subprotocols: []string{api.Subprotocol}, HTTPHeader: http.Header{},
		OnPingReceived: func(context.Context, []byte) bool {
			c.heard.Store(time.Now().UnixMilli())
			return true
		},
	}
	if hello.UserAgent != "" {
		opts.HTTPHeader.Set("User-Agent", headerValue(hello.UserAgent))
	}
	ws, err := dialWebSocket(dctx, s.url, opts)
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(readLimit)
	c.ws = ws
	c.ctx, c.end = context.WithCancelCause(context.WithoutCancel(ctx))
	if hello.Token != "" {
		c.presented = []string{hello.Token}
	}
	if err := c.write(dctx, hello); err != nil {
		c.end(err)
		_ = ws.CloseNow()
		return nil, fmt.Errorf("sending hello: %w", err)
	}
	return c, nil
}

// headerValue drops what a header cannot carry; the hello carries the string as it is.
func headerValue(s string) string {
	out := make([]byte, 0, len(s))
	for i := range len(s) {
		if s[i] >= ' ' && s[i] < 0x7f {
			out = append(out, s[i])
		}
	}
	return string(out)
}

func (c *conn) write(ctx context.Context, frame any) error {
	data, err := json.Marshal(frame)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return c.ws.Write(ctx, websocket.MessageText, data)
}

func (c *conn) authorize(ctx context.Context, token string) error {
	c.mu.Lock()
	c.presented = append(c.presented, token)
	if n := len(c.presented) - maxPresented; n > 0 {
		c.presented = slices.Delete(c.presented, 0, n) // the oldest have expired long ago
	}
	c.mu.Unlock()
	return c.write(ctx, api.Authorize{Type: api.TypeAuthorize, Token: token})
}

// read hands frames over until the connection fails, which it always does in the end.
func (c *conn) read() {
	defer close(c.frames)
	for {
		_, data, err := c.ws.Read(c.ctx)
		if err != nil {
			c.end(err)
			return
		}
		c.heard.Store(time.Now().UnixMilli())
		select {
		case c.frames <- data:
		case <-c.ctx.Done():
			return
		}
	}
}

// errSilent ends a connection whose server has stopped answering without a word: a dead host, or a proxy that forgot us.
var errSilent = errors.New("the server fell silent")

// run handles the connection until it has ended, which it has when run returns.
func (c *conn) run(ctx context.Context) ending {
	var reader sync.WaitGroup
	reader.Go(c.read)
	defer reader.Wait()
	defer c.ws.CloseNow() //nolint:errcheck // whatever it says, the connection is gone
	defer c.end(nil)
	defer c.s.setConn(nil)

	c.heard.Store(time.Now().UnixMilli())
	quiet := time.NewTimer(c.silence)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			c.bye()
			return ending{}
		case frame, ok := <-c.frames:
			if !ok {
				return c.ending(context.Cause(c.ctx))
			}
			if err := c.handle(ctx, frame); err != nil {
				c.end(err)
				return c.ending(err)
			}
		case <-c.renewAt:
			c.renewAt = nil
			c.renew(ctx)
		case <-quiet.C:
			// The reader may have heard more while a callback held this goroutine up.
			if left := c.silence - time.Since(time.UnixMilli(c.heard.Load())); left > 0 {
				quiet.Reset(left)
				continue
			}
			c.end(errSilent)
			return c.ending(errSilent)
		}
	}
}

// bye says goodbye and waits a little for the server's close frame, so that the record says client_closed. It runs on a fresh
// context: the caller's has ended.
func (c *conn) bye() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), byeTimeout)
	defer cancel()
	if c.write(ctx, struct {
		Type string `json:"type"`
	}{api.TypeBye}) != nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-c.frames:
			if !ok {
				return
			}
		}
	}
}

// handle takes one frame from the server. Unknown types are ignored: they are a later version's.
func (c *conn) handle(ctx context.Context, frame []byte) error {
	var head struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(frame, &head); err != nil {
		return fmt.Errorf("the server sent a frame that is not a JSON object: %w", err)
	}
	switch head.Type {
	case api.TypeWelcome:
		return with(frame, c.welcome)
	case api.TypeTokenExpiring, api.TypeAuthorized:
		return with(frame, func(n api.TokenNotice) { c.notice(ctx, n) })
	case api.TypeError:
		return with(frame, c.refused)
	case api.TypeDisconnect:
		return with(frame, func(d api.Disconnect) {
			c.disconnect = &d
			c.s.cfg.OnEvent(d)
		})
	}
	return nil
}

func with[T any](frame []byte, do func(T)) error {
	var v T
	if err := json.Unmarshal(frame, &v); err != nil {
		return fmt.Errorf("the server sent a frame with a field of the wrong type: %w", err)
	}
	do(v)
	return nil
}

func (c *conn) welcome(w api.Welcome) {
	c.welcomed = time.Now()
	if ping := time.Duration(w.PingIntervalMs) * time.Millisecond; ping > 0 {
		c.silence = 2*ping + api.PongTimeout // a server that pauses for one interval is not dead
	}
	c.s.setConn(c)
	c.s.cfg.OnEvent(w)
}

func (c *conn) notice(ctx context.Context, n api.TokenNotice) {
	c.s.cfg.OnEvent(n)
	if n.Type == api.TypeTokenExpiring && c.s.cfg.Token != nil {
		c.renew(ctx)
		return
	}
	c.mu.Lock()
	c.renewing = false
	c.mu.Unlock()
	c.renewTries.reset()
	c.renewAt = nil
}

func (c *conn) refused(e api.FrameError) {
	c.refusal = &api.Error{Code: e.Code, Message: e.Message}
	c.s.cfg.OnEvent(e)
	c.mu.Lock()
	again := c.renewing && aboutToken(e.Code)
	if again {
		c.renewing = false
	}
	c.mu.Unlock()
	if again {
		c.renewLater()
	}
}

// aboutToken tells whether an error frame answers an authorize.
func aboutToken(code api.Code) bool {
	switch code {
	case api.CodeTokenInvalid, api.CodeTokenExpired, api.CodeTokenRevoked, api.CodeTokenMismatch, api.CodeQuotaExceeded,
		api.CodeApplicationUnknown, api.CodeUnavailable:
		return true
	default:
		return false
	}
}

// renew asks for a token and presents it; trouble is tried again until the session's token has run out, which the server decides.
func (c *conn) renew(ctx context.Context) {
	tctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	token, err := c.s.cfg.Token(tctx)
	if err != nil || c.knows(token) {
		c.renewLater()
		return
	}
	c.mu.Lock()
	c.renewing = true
	c.mu.Unlock()
	_ = c.authorize(tctx, token) // the reader sees what is wrong with the connection
}

func (c *conn) renewLater() { c.renewAt = time.After(c.renewTries.next(c.s.cfg.MinBackoff)) }

func (c *conn) knows(token string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Contains(c.presented, token)
}

// ending judges how the connection ended: the disconnect frame's advice, else the close code's, else it was lost.
func (c *conn) ending(err error) ending {
	var end ending
	if !c.welcomed.IsZero() {
		end.lasted = time.Since(c.welcomed)
	}
	var closed websocket.CloseError
	if c.disconnect == nil && errors.As(err, &closed) {
		if known := api.NewDisconnect(api.CloseCode(closed.Code), "", 0); known.Reason != "" {
			c.disconnect = &known
		}
	}
	d := c.disconnect
	if d == nil {
		end.err = fmt.Errorf("the connection was lost: %w", err)
		return end
	}
	ended := &EndedError{Disconnect: *d}
	if c.welcomed.IsZero() {
		ended.Cause = c.refusal // later, an error frame is about something else
	}
	end.err = ended
	end.final = !d.Reconnect
	end.retryAfter = time.Duration(d.RetryAfterMs) * time.Millisecond
	if d.Reauthenticate {
		c.mu.Lock()
		end.refused = c.presented
		c.mu.Unlock()
		// A publishable key is for ever: refused once, it stays refused. Ended by an operator, it may come back.
		if c.s.cfg.Token == nil && d.Code == api.CloseCredentialRefused {
			end.final = true
		}
	}
	return end
}
