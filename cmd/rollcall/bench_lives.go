package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
)

// life is one session of a soak, from its connection to its end.
type life struct {
	lives   *lives
	number  int
	renews  bool // its tokens
	wire    *wire
	welcome api.Welcome
}

// lifeKind is a way to live. live returns what ended it: the code of the disconnect frame, else of the close frame, "lost" when
// there was neither, "gone" when the client did not wait for any.
type lifeKind struct {
	name   string
	weight int // of 101
	end    string
	live   func(*life, context.Context) (string, error)
	long   bool // a multiple of lifeSpan
}

var lifeKinds = []lifeKind{
	{"says bye", 20, "1000", (*life).bye, false},
	{"sends a close frame", 11, "1000", (*life).closeFrame, false},
	{"is dropped", 15, "gone", (*life).drop, false},
	{"is reset", 10, "gone", (*life).reset, false},
	{"answers no ping", 10, "lost", (*life).silent, false},
	{"is disconnected", 10, "4100", (*life).kicked, false},
	{"sends too many frames", 5, "4201", (*life).limited, false},
	{"renews its token", 10, "1000", (*life).renewing, true},
	{"lets its token expire", 5, "4105", (*life).expiring, true},
	{"sends nonsense", 3, "4300", (*life).nonsense, false},
	{"has a wrong token", 1, "4203", (*life).wrongToken, false},
	{"says no hello", 1, "4202", (*life).mute, false},
}

// lifeSpan is how long a life without a plan takes.
func lifeSpan() time.Duration { return 300*time.Millisecond + rand.N(2*time.Second) }

// token signs one that is good for at least d: exp has whole seconds.
func (l *life) token(d time.Duration, key string) (string, error) {
	now := time.Now()
	return jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": fmt.Sprintf("user-%05d@bench.test", l.number), "license": fmt.Sprintf("LIC-%06d", l.number),
		"iat": now.Unix(), "exp": now.Add(d + time.Second - 1).Unix(), "jti": strconv.FormatUint(rand.Uint64(), 36),
	}).SignedString([]byte(key))
}

// open connects with a token that lives so long.
func (l *life) open(ctx context.Context, token time.Duration) error {
	b := l.lives.bench
	signed, err := l.token(token, b.target.Secret)
	if err != nil {
		return err
	}
	return l.hello(ctx, signed)
}

func (l *life) hello(ctx context.Context, token string) error {
	b := l.lives.bench
	hello, err := json.Marshal(api.Hello{Type: api.TypeHello, Token: token, Application: b.target.Application,
		ClientID: fmt.Sprintf("client-%05d", l.number), Hostname: "soak"})
	if err != nil {
		return err
	}
	l.wire, l.welcome, err = b.dial.open(ctx, hello)
	return err
}

// stay answers pings and renews tokens until the time comes or the session ends; then it returns how.
func (l *life) stay(until time.Time) (ended string, err error) {
	_ = l.wire.conn.SetReadDeadline(until) // a TCP connection takes deadlines
	var e clientEnd
	for {
		op, payload, err := l.wire.read()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "", nil
		case err != nil:
			return e.how(), nil //nolint:nilerr // how a life ends is what is measured
		case op == ws.OpPing:
			l.lives.pings.Add(1)
			_ = l.wire.send(ws.OpPong, payload) // the next read tells that it failed
		case op == ws.OpClose:
			code, _ := ws.ParseCloseFrameData(payload)
			e.Close = api.CloseCode(code)
			return e.how(), nil
		case op == ws.OpText:
			if err := l.text(payload, &e); err != nil {
				return "", err
			}
		}
	}
}

// text takes a frame of the server's.
func (l *life) text(payload []byte, e *clientEnd) error {
	var frame struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(payload, &frame); err != nil {
		return err
	}
	switch frame.Type {
	case api.TypeDisconnect:
		var d api.Disconnect
		_ = json.Unmarshal(payload, &d) // 0 says so
		e.Code = d.Code
	case api.TypeAuthorized:
		l.lives.renewals.Add(1)
	case api.TypeTokenExpiring:
		if !l.renews {
			return nil
		}
		token, err := l.token(soakShort, l.lives.bench.target.Secret)
		if err != nil {
			return err
		}
		return l.say(api.Authorize{Type: api.TypeAuthorize, Token: token})
	case api.TypeError:
		return fmt.Errorf("the server answered %s", payload)
	}
	return nil
}

// how names the end.
func (e clientEnd) how() string {
	switch {
	case e.Code != 0 && e.Close != 0 && e.Code != e.Close:
		return fmt.Sprintf("%d, then %d", e.Code, e.Close)
	case e.Code != 0:
		return strconv.Itoa(int(e.Code))
	case e.Close != 0:
		return strconv.Itoa(int(e.Close))
	}
	return "lost"
}

func (l *life) say(frame any) error {
	data, err := json.Marshal(frame)
	if err == nil {
		err = l.wire.text(data)
	}
	return err
}

// until opens a session, stays for its span, does what ends it, and returns how it did.
func (l *life) until(ctx context.Context, token, span time.Duration, end func() error) (string, error) {
	if err := l.open(ctx, token); err != nil {
		return "", err
	}
	defer l.wire.close()
	if ended, err := l.stay(time.Now().Add(span)); ended != "" || err != nil {
		return ended, err
	}
	if err := end(); err != nil {
		return "", err
	}
	ended, err := l.stay(time.Now().Add(wireTimeout))
	if ended == "" && err == nil {
		err = errors.New("it did not end")
	}
	return ended, err
}

func (l *life) bye(ctx context.Context) (string, error) {
	return l.until(ctx, soakToken, lifeSpan(), func() error { return l.say(map[string]string{"type": api.TypeBye}) })
}

func (l *life) closeFrame(ctx context.Context) (string, error) {
	return l.until(ctx, soakToken, lifeSpan(), func() error {
		return l.wire.send(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
	})
}

// errGone is a client that does not wait for what comes.
var errGone = errors.New("gone")

func gone(ended string, err error) (string, error) {
	if errors.Is(err, errGone) {
		return "gone", nil
	}
	return ended, err
}

func (l *life) drop(ctx context.Context) (string, error) {
	return gone(l.until(ctx, soakToken, lifeSpan(), func() error { return errGone }))
}

// reset ends the connection with RST instead of FIN.
func (l *life) reset(ctx context.Context) (string, error) {
	return gone(l.until(ctx, soakToken, lifeSpan(), func() error {
		if tcp, ok := l.wire.conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // without it the end is a FIN
		}
		return errGone
	}))
}

// silent stays connected and answers nothing.
func (l *life) silent(ctx context.Context) (string, error) {
	if err := l.open(ctx, soakToken); err != nil {
		return "", err
	}
	defer l.wire.close()
	_ = l.wire.conn.SetReadDeadline(time.Now().Add(wireTimeout)) // a TCP connection takes deadlines
	var e clientEnd
	for {
		op, payload, err := l.wire.read()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "", errors.New("it did not end")
		case err != nil:
			return e.how(), nil
		case op == ws.OpText:
			if err := l.text(payload, &e); err != nil {
				return "", err
			}
		}
	}
}

func (l *life) kicked(ctx context.Context) (string, error) {
	return l.until(ctx, soakToken, lifeSpan(), func() error {
		n, err := l.lives.bench.m.Disconnect(ctx, l.lives.bench.app, l.welcome.SessionID, "soak")
		if err == nil && n != 1 {
			err = fmt.Errorf("disconnecting ended %d sessions", n)
		}
		return err
	})
}

func (l *life) limited(ctx context.Context) (string, error) {
	return l.until(ctx, soakToken, 0, func() error {
		for range api.FrameBurst + 2 {
			_ = l.say(map[string]string{"type": api.TypeActivity}) // one that fails comes after the end, which is read next
		}
		return nil
	})
}

func (l *life) renewing(ctx context.Context) (string, error) {
	l.renews = true
	return l.until(ctx, soakShort, 2*soakShort, func() error { return l.say(map[string]string{"type": api.TypeBye}) })
}

func (l *life) expiring(ctx context.Context) (string, error) {
	return l.until(ctx, soakShort, wireTimeout, func() error { return errors.New("it did not end") })
}

func (l *life) nonsense(ctx context.Context) (string, error) {
	return l.until(ctx, soakToken, lifeSpan(), func() error { return l.wire.text([]byte("nonsense")) })
}

func (l *life) wrongToken(ctx context.Context) (string, error) {
	token, err := l.token(soakToken, "this is not the secret that the server has")
	if err != nil {
		return "", err
	}
	err = l.hello(ctx, token)
	if no := (*refusedError)(nil); errors.As(err, &no) {
		return strconv.Itoa(no.code), nil
	}
	if err == nil {
		l.wire.close()
		err = errors.New("it was welcomed")
	}
	return "", err
}

func (l *life) mute(ctx context.Context) (string, error) {
	var e clientEnd
	w, err := l.lives.bench.dial.dial(ctx, api.ConnectPath, "", ws.Dialer{Protocols: []string{api.Subprotocol}}, func(w *wire) error {
		e = w.heardEnd()
		return nil
	})
	if err != nil {
		return "", err
	}
	w.close()
	return e.how(), nil
}
