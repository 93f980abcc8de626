package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/registry"
	"github.com/rollcallhq/rollcall/internal/store"
	"github.com/rollcallhq/rollcall/internal/tenant"
	"github.com/rollcallhq/rollcall/internal/websock"
)

// TestFramesOfAnOpenSession: bad frames are answered, and the session goes on.
func TestFramesOfAnOpenSession(t *testing.T) {
	f := newFixture(t, Limits{FrameBurst: 1000})
	c := f.openToken(time.Hour, "cid", "client-001")
	foreign, _ := f.tenants.Application(otherID)
	issued, err := f.tenants.IssueToken(foreign, api.TokenInput{Login: "john@example.com", ClientID: "client-001", ExpiresIn: 60})
	if err != nil {
		t.Fatal(err)
	}
	refused := func(code api.Code, message string) string {
		return fmt.Sprintf(`{"type":"error","code":%q,"message":%q}`, code, message)
	}
	authorize := func(tok string) string { return `{"type":"authorize","token":"` + tok + `"}` }
	text := "must be a string of at most 256 bytes of valid UTF-8"
	object := "must be an object of at most 4096 bytes and 4 levels"
	mismatch := refused("token_mismatch", "the token's sub or cid is not that of the session's token")
	for _, tt := range []struct{ in, want string }{
		{`{"type":"nonsense"}`, refused("validation_error", "type must be authorize, update, activity or bye")},
		{`{"type":"Bye"}`, refused("validation_error", "type must be authorize, update, activity or bye")},
		{`{"type":""}`, refused("validation_error", "type must be authorize, update, activity or bye")},
		{`{"type":"welcome"}`, refused("validation_error", "type must be authorize, update, activity or bye")},
		{`{"type":"hello","token":"x"}`, refused("validation_error", "type must not be hello: the session is open")},
		{`{"type":"activity","type":"bye"}`, refused("validation_error", "type must be given once")},
		{`{"type":"authorize"}`, refused("validation_error", "token is required")},
		{`{"type":"authorize","token":null}`, refused("validation_error", "token is required")},
		{`{"type":"authorize","Token":"x"}`, refused("validation_error", "token is required")},
		{`{"type":"authorize","token":5}`, refused("validation_error", "token must be a string")},
		{`{"type":"authorize","token":"a","token":"b"}`, refused("validation_error", "token must be given once")},
		{authorize(""), refused("token_invalid", "the token is empty")},
		{authorize(token(-time.Second)), refused("token_expired", "the token has expired")},
		{authorize(token(time.Hour, "sub", "jane", "cid", "client-001")), mismatch},
		{authorize(token(time.Hour, "sub", "", "cid", "client-001")), mismatch},
		{authorize(token(time.Hour)), mismatch},
		{authorize(token(time.Hour, "cid", "client-002")), mismatch},
		{authorize(issued.Token), refused("token_mismatch", "the token is for another application than the session")},
		{`{"type":"update","name":5}`, refused("validation_error", "name "+text)},
		{`{"type":"update","name":"` + strings.Repeat("é", 129) + `"}`, refused("validation_error", "name "+text)},
		{`{"type":"update","name":"\ud800"}`, refused("validation_error", "name "+text)},
		{`{"type":"update","hostname":[]}`, refused("validation_error", "hostname "+text)},
		{`{"type":"update","hostname":"a","hostname":"b"}`, refused("validation_error", "hostname must be given once")},
		{`{"type":"update","clientInfo":"x"}`, refused("validation_error", "clientInfo "+object)},
		{`{"type":"update","clientInfo":{"a":{"b":{"c":{"d":{}}}}}}`, refused("validation_error", "clientInfo "+object)},
		{`{"type":"update","name":"changed","hostname":7}`, refused("validation_error", "hostname "+text)},
	} {
		c.text(tt.in)
		if got := c.next(); got != tt.want {
			t.Errorf("%.80s\ngot  %s\nwant %s", tt.in, got, tt.want)
		}
	}
	if r := f.record(c.id); r.Name != "" || r.EndedAt != 0 || r.Login != "john@example.com" {
		t.Errorf("refused, but recorded: %+v", r)
	}
	garbage := authorize("garbage")
	c.text(garbage)
	if got := c.object()["code"]; got != "token_invalid" {
		t.Error(got)
	}
	c.text(`{"type":"activity"}`) // not answered
	c.send(0x89, "are you there")
	if got := c.next(); got != "pong are you there" {
		t.Error(got)
	}
}

// TestClosingFrames: what closes an open session, how it is recorded.
func TestClosingFrames(t *testing.T) {
	f := newFixture(t, Limits{})
	tests := []struct {
		name   string
		do     func(*client)
		close  string
		reason api.EndReason
	}{
		{"bye", func(c *client) { c.text(`{"type":"bye"}`) }, "close 1000", api.EndClientClosed},
		{"close frame", func(c *client) { c.send(0x88, "\x03\xe9gone") }, "close 1001", api.EndClientClosed},
		{"empty close frame", func(c *client) { c.send(0x88, "") }, "close", api.EndClientClosed},
		{"end of data", func(c *client) { _ = c.Close() }, "", api.EndConnectionLost},
		{"not JSON", func(c *client) { c.text("x") }, "close 4300 frame is not a JSON object with a type", api.EndProtocolError},
		{"no type", func(c *client) { c.text("{}") }, "close 4300 frame is not a JSON object with a type", api.EndProtocolError},
		{"binary", func(c *client) { c.send(0x82, "x") }, "close 4304 binary frames are not accepted", api.EndProtocolError},
		{"too large", func(c *client) { c.text(strings.Repeat(" ", 20_000)) }, "close 1009 message is larger than 16384 bytes", api.EndProtocolError},
		{"not UTF-8", func(c *client) { c.text("\xff") }, "close 1007 text is not valid UTF-8", api.EndProtocolError},
		{"protocol error", func(c *client) { c.send(0xc1, "") }, "close 1002 reserved bit set", api.EndProtocolError},
		{"too many frames", func(c *client) {
			for range 40 {
				c.text(`{"type":"activity"}`)
			}
		}, "close 4201 too many frames", api.EndRateLimited},
		{"too many pings", func(c *client) {
			for range 40 {
				c.send(0x89, "")
			}
		}, "close 4201 too many frames", api.EndRateLimited},
		{"too many pongs", func(c *client) {
			for range 40 {
				c.send(0x8a, "")
			}
		}, "close 4201 too many frames", api.EndRateLimited},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := f.openKey()
			c.TB = t
			tt.do(c)
			if all := c.rest(); tt.close != "" && (len(all) == 0 || all[len(all)-1] != tt.close) {
				t.Errorf("frames %v", all)
			}
			f.wantEnd(c.id, tt.reason)
		})
	}
	if f.live() != 0 {
		t.Errorf("%d rows are left", f.live())
	}
}

func TestRateRefills(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{PingInterval: time.Hour})
		c := f.openKey() // one of 30
		for range 29 {
			c.text(`{"type":"activity"}`)
		}
		for range 100 { // 60 a minute, for longer than the burst could pay for
			time.Sleep(time.Second)
			c.text(`{"type":"activity"}`)
		}
		c.text(`{"type":"activity"}`)
		if got := c.rest(); len(got) != 2 || got[1] != "close 4201 too many frames" {
			t.Error(got)
		}
	})
}

func TestAuthorizeAnUnauthorizedSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		c := f.open(`"publishableKey":"` + pubKey + `","clientId":"client-001"`)
		c.text(`{"type":"authorize","token":"` + token(time.Hour, "license", "L-1", "cid", "client-009", "name", "from token") + `"}`)
		if got, want := c.next(), `{"type":"authorized","tokenExpiresAt":"2000-01-01T01:00:00.000Z"}`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		row, _ := f.registry.Get(appID, c.id)
		r := f.record(c.id)
		for _, got := range [][]any{
			{row.Authorized, row.Login, row.License, row.ClientID, row.TokenExpiresAt, row.Credential.Kind},
			{r.Authorized, r.Login, r.License, r.ClientID, r.TokenExpiresAt, registry.CredentialForeign},
		} {
			want := []any{true, "john@example.com", "L-1", "client-009", api.MillisOf(time.Now().Add(time.Hour).Truncate(time.Second)), registry.CredentialForeign}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
		if r.Name != "from token" {
			t.Errorf("name %q", r.Name)
		}
		if f.registry.Authorized(orgID) != 1 {
			t.Error("not counted")
		}
	})
}

func TestUpdate(t *testing.T) {
	f := newFixture(t, Limits{})
	c := f.openToken(time.Hour, "name", "from token")
	c.text(`{"type":"update","name":"n","hostname":"h","clientInfo":{"v" : 1}}`)
	c.text(`{"type":"update","name":null,"clientInfo":null}`)
	c.text(`{"type":"update"}`)
	c.text(`{"type":"update","hostname":""}`)
	c.send(0x89, "")
	if got := c.next(); got != "pong" && got != "pong " {
		t.Fatal(got) // updates are not answered
	}
	if r := f.record(c.id); r.Name != "n" || r.Hostname != "" || string(r.ClientInfo) != `{"v" : 1}` {
		t.Errorf("record %+v", r)
	}
}

// TestActivity: frames count, protocol pings do not.
func TestActivity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{PingInterval: time.Hour})
		c := f.openKey()
		active := func() time.Duration {
			synctest.Wait()
			row, _ := f.registry.Get(appID, c.id)
			return time.Since(row.LastActiveAt.Time()).Truncate(time.Second)
		}
		time.Sleep(10 * time.Second)
		c.send(0x8a, "")
		if got := active(); got != 10*time.Second {
			t.Errorf("a pong counted: %v", got)
		}
		c.send(0x89, "")
		c.next()
		if got := active(); got != 10*time.Second {
			t.Errorf("a ping counted: %v", got)
		}
		for _, frame := range []string{`{"type":"activity"}`, `{"type":"unknown"}`, `{"type":"update"}`} {
			time.Sleep(10 * time.Second)
			c.text(frame)
			if frame == `{"type":"unknown"}` {
				c.next()
			}
			if got := active(); got != 0 {
				t.Errorf("%s did not count: %v", frame, got)
			}
		}
		time.Sleep(3 * time.Second)
		c.text(`{"type":"bye"}`)
		c.rest()
		if r := f.wantEnd(c.id, api.EndClientClosed); r.EndedAt-r.LastActiveAt != 0 {
			t.Errorf("last active %v before the end", r.EndedAt-r.LastActiveAt)
		}
	})
}

func TestHelloTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		c := f.connect()
		start := time.Now()
		go func() { // a byte now and then does not help
			for _, b := range []byte{0x81, 0x80 | 20, 0, 0, 0, 0, '{', '"', 't', 'y', 'p', 'e'} {
				time.Sleep(2 * time.Second)
				_, _ = c.Write([]byte{b})
			}
		}()
		want := []string{`{"type":"disconnect","code":4202,"reason":"no hello within 15 s","reauthenticate":false,"reconnect":true}`,
			"close 4202 no hello within 15 s"}
		if diff := cmp.Diff(want, c.rest()); diff != "" || time.Since(start) != 15*time.Second {
			t.Error(time.Since(start), diff)
		}
		time.Sleep(time.Minute)
	})
}

// TestPings: every 25 s ± 10 %; a session whose client answers stays.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		c := f.openKey()
		delays := map[time.Duration]bool{}
		for range 20 {
			last := time.Now()
			if got := c.next(); got != "ping " {
				t.Fatal(got)
			}
			took := time.Since(last)
			delays[took] = true
			if took < 22500*time.Millisecond-1 || took > 27500*time.Millisecond {
				t.Errorf("ping after %v", took)
			}
			c.send(0x8a, "")
		}
		if len(delays) < 10 {
			t.Error("no jitter")
		}
		f.g.Disconnect(t.Context(), appID, f.record(c.id).ServerID, tenant.Admin, "")
		c.rest()
	})
}

func TestPongTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		c := f.openKey()
		if got := c.next(); got != "ping " {
			t.Fatal(got)
		}
		start := time.Now()
		time.Sleep(9 * time.Second)
		c.text(`{"type":"activity"}`) // is no answer
		if got := c.next(); got != "EOF" || time.Since(start) != 10*time.Second {
			t.Errorf("%s after %v", got, time.Since(start))
		}
		f.wantEnd(c.id, api.EndPingTimeout)
	})
}

// TestTokenLife: the notice, the expiry at which nothing happens, the end at grace, and a renewal in time.
func TestTokenLife(t *testing.T) {
	tests := []struct {
		life, notice time.Duration
	}{
		{time.Hour, time.Hour - time.Minute},
		{2 * time.Minute, time.Minute},
		{30 * time.Second, 15 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newPipeFixture(t, Limits{PingInterval: 24 * time.Hour})
				start := time.Now()
				c := f.openToken(tt.life)
				expires := start.Add(tt.life).Format(api.TimestampLayout)
				if got := c.next(); got != `{"type":"token_expiring","tokenExpiresAt":"`+expires+`"}` {
					t.Error(got)
				}
				if took := time.Since(start); took != tt.notice {
					t.Errorf("notice after %v", took)
				}
				time.Sleep(tt.life - tt.notice + 29*time.Second)
				if f.live() != 1 || len(f.registry.Sessions(appID, nil, 9, registry.RangeExpired, api.MillisOf(time.Now()))) != 1 {
					t.Error("not listed as expired in its grace")
				}
				want := []string{`{"type":"disconnect","code":4105,"reason":"token expired","reauthenticate":true,"reconnect":true}`, "close 4105 token expired"}
				if diff := cmp.Diff(want, c.rest()); diff != "" {
					t.Error(diff)
				}
				if took := time.Since(start); took != tt.life+30*time.Second {
					t.Errorf("ended after %v", took)
				}
				f.wantEnd(c.id, api.EndTokenExpired)
			})
		})
	}
}

func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{PingInterval: 24 * time.Hour})
		start := time.Now()
		c := f.openToken(10 * time.Minute)
		for i := range 3 { // each in the grace of the one before
			c.next() // token_expiring
			time.Sleep(80 * time.Second)
			c.text(`{"type":"authorize","token":"` + token(10*time.Minute, "jti", fmt.Sprint(i)) + `"}`)
			if got, want := c.next(), `{"type":"authorized","tokenExpiresAt":"`+time.Now().Add(10*time.Minute).UTC().Format(api.TimestampLayout)+`"}`; got != want {
				t.Fatalf("got %s, want %s", got, want)
			}
		}
		c.next()
		if got := c.rest(); len(got) != 2 || got[1] != "close 4105 token expired" {
			t.Error(got)
		}
		if took, want := time.Since(start), 3*(10*time.Minute+20*time.Second)+10*time.Minute+30*time.Second; took != want {
			t.Errorf("ended after %v, want %v", took, want)
		}
	})
}

// recorder is a socket that keeps what it is given: with it the protocol runs without a driver.
type recorder struct {
	frames []string
	closed bool
}

func (r *recorder) Send(frames []byte) error {
	r.frames = append(r.frames, string(frames))
	return nil
}

func (r *recorder) BeginClose(frames []byte, code api.CloseCode, _ string) bool {
	r.frames, r.closed = append(r.frames, fmt.Sprintf("%s close %d", frames, code)), true
	return true
}

func (r *recorder) Close() error { r.closed = true; return nil }

// TestStarvation: after the process stood still, a client whose answer waits to be read is not blamed.
func TestStarvation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newPipeFixture(t, Limits{})
		out := &recorder{}
		s := &session{gateway: f.g, socket: out, record: store.Record{IP: "192.0.2.1"}, upgrade: &upgrade{}, helloBy: momentOf(time.Now().Add(15 * time.Second))}
		tick := func(at time.Time) { s.step(websock.Message{}, websock.ErrTimeout, at) }

		tick(s.helloBy.time().Add(time.Minute))
		if out.closed || time.Until(s.due()) != 15*time.Second+time.Minute+15*time.Second {
			t.Fatalf("hello deadline: closed=%v, due in %v", out.closed, time.Until(s.due()))
		}
		now := time.Now()
		hello, _ := json.Marshal(map[string]string{"type": "hello", "application": number, "token": token(time.Hour)})
		s.step(websock.Message{Op: websock.Text, Data: hello}, nil, now)
		tick(s.pingAt.time())
		if s.pongBy == 0 {
			t.Fatal("no ping")
		}
		late := s.pongBy.time().Add(3 * time.Second)
		tick(late)
		if out.closed || s.pongBy != momentOf(late.Add(10*time.Second)) {
			t.Fatalf("pong deadline: closed=%v, %v", out.closed, s.pongBy)
		}
		s.step(websock.Message{Op: websock.Pong}, nil, late)

		late = s.grace.time().Add(time.Hour) // stopped over the token's end: told, and given the grace to renew
		tick(late)
		if out.closed || s.grace != momentOf(late.Add(30*time.Second)) || !strings.Contains(strings.Join(out.frames, ""), "token_expiring") {
			t.Fatalf("token: closed=%v, grace %v, %q", out.closed, s.grace, out.frames)
		}
		s.step(websock.Message{Op: websock.Pong}, nil, late)
		s.pingAt = 0
		tick(s.grace.time())
		if !out.closed || !s.due().IsZero() {
			t.Errorf("after its second grace: closed=%v, due %v", out.closed, s.due())
		}
	})
}
