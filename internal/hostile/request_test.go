package hostile

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// smuggled is a request that hides in another one's body or head; an answer to it shows that the server took it for one.
const smuggled = "DELETE /smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

// line replaces a line of the upgrade, or takes it out.
func line(name, with string) string {
	var b strings.Builder
	for l := range strings.SplitAfterSeq(request(), "\r\n") {
		if !strings.HasPrefix(l, name+":") {
			b.WriteString(l)
		} else if with != "" {
			b.WriteString(with + "\r\n")
		}
	}
	return b.String()
}

// TestRequestShapes: what two servers in a row could read in two ways is refused; what is merely unusual is read as RFC 9112 says.
func TestRequestShapes(t *testing.T) {
	t.Parallel()
	const key, version, upgrade = "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Upgrade"
	get := func(target string) string { return strings.Replace(request(), api.ConnectPath, target, 1) }
	cases := map[string]struct {
		request string
		status  int // 0 = closed without an answer, 101 = upgraded
	}{
		"two Content-Length":               {request("Content-Length: 5", "Content-Length: 6") + smuggled, 400},
		"Content-Length twice":             {request("Content-Length: 5", "Content-Length: 5") + "hello", 400},
		"Content-Length list":              {request("Content-Length: 5, 5") + smuggled, 400},
		"Content-Length with a sign":       {request("Content-Length: +5") + smuggled, 400},
		"Content-Length negative":          {request("Content-Length: -1") + smuggled, 400},
		"Content-Length in hexadecimals":   {request("Content-Length: 0x5") + smuggled, 400},
		"Content-Length empty":             {request("Content-Length:") + smuggled, 400},
		"Content-Length of 2^64":           {request("Content-Length: 18446744073709551616") + smuggled, 400},
		"a body":                           {request(fmt.Sprintf("Content-Length: %d", len(smuggled))) + smuggled, 400},
		"a body that does not come":        {request("Content-Length: 1000"), 400},
		"chunked":                          {request("Transfer-Encoding: chunked") + "0\r\n\r\n", 400},
		"chunked and Content-Length":       {request("Transfer-Encoding: chunked", "Content-Length: 5") + "0\r\n\r\n", 400},
		"Content-Length and chunked":       {request("Content-Length: 5", "Transfer-Encoding: chunked") + "0\r\n\r\n", 400},
		"chunked with a smuggled request":  {request("Transfer-Encoding: chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled), 400},
		"chunked twice":                    {request("Transfer-Encoding: chunked", "Transfer-Encoding: chunked") + "0\r\n\r\n", 501},
		"chunked, identity":                {request("Transfer-Encoding: chunked, identity") + "0\r\n\r\n", 501},
		"unknown coding":                   {request("Transfer-Encoding: xchunked") + smuggled, 501},
		"coding with a tab":                {request("Transfer-Encoding:\tchunked") + "0\r\n\r\n", 400},
		"space before the colon":           {request("Transfer-Encoding : chunked") + smuggled, 400},
		"space in a name":                  {request("Transfer Encoding: chunked") + smuggled, 400},
		"a line without a colon":           {request("nonsense") + smuggled, 400},
		"an empty name":                    {request(": x"), 400},
		"NUL in a value":                   {request("X: a\x00b"), 400},
		"CR in a value":                    {request("X: a\rTransfer-Encoding: chunked"), 400},
		"control character in a name":      {request("X\x01: a"), 400},
		"folded first line":                {strings.Replace(request(), "\r\nHost", "\r\n Host", 1), 400},
		"folded line elsewhere":            {request("X: a\r\n b"), 101}, // RFC 9112, section 5.2: a space
		"folded key":                       {line(key, key+": dGhlIHNh\r\n bXBsZSBub25jZQ=="), 400},
		"bare LF":                          {strings.ReplaceAll(request(), "\r\n", "\n"), 101}, // RFC 9112, section 2.2
		"empty lines before the request":   {"\r\n\r\n" + request(), 400},
		"HTTP/1.0":                         {strings.Replace(request(), "HTTP/1.1", "HTTP/1.0", 1), 400},
		"HTTP/0.9":                         {"GET " + api.ConnectPath + "\r\n\r\n", 400},
		"HTTP/2.0":                         {strings.Replace(request(), "HTTP/1.1", "HTTP/2.0", 1), 505},
		"HTTP/2 preface":                   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		"version of two digits":            {strings.Replace(request(), "HTTP/1.1", "HTTP/1.11", 1), 400},
		"no Host":                          {line("Host", ""), 400},
		"two Hosts":                        {request("Host: other.example"), 400},
		"Host that is none":                {line("Host", "Host: a b"), 400},
		"another Host":                     {line("Host", "Host: attacker.example:99"), 101}, // names no server of ours: there is one
		"absolute target":                  {get("http://rollcall.example" + api.ConnectPath), 101},
		"absolute target of another host":  {get("https://attacker.example" + api.ConnectPath), 101},
		"target with a query":              {get(api.ConnectPath + "?token=x"), 101},
		"target with a fragment":           {get(api.ConnectPath + "#x"), 404},
		"target with two slashes":          {get("/" + api.ConnectPath), 404},
		"target with a slash behind":       {get(api.ConnectPath + "/"), 404},
		"target with dots":                 {get("/api/v1/x/../connect"), 404},
		"target escaped":                   {get("/api/v1/%63onnect"), 101},
		"target with NUL":                  {get(api.ConnectPath + "%00"), 404},
		"target in capitals":               {get(strings.ToUpper(api.ConnectPath)), 404},
		"target without a slash":           {get("connect"), 400},
		"CONNECT":                          {"CONNECT rollcall.example:80 HTTP/1.1\r\nHost: rollcall.example:80\r\n\r\n", 404},
		"POST":                             {"POST" + strings.TrimPrefix(request(), "GET"), 405},
		"get":                              {"get" + strings.TrimPrefix(request(), "GET"), 405},
		"method that is none":              {"G@T" + strings.TrimPrefix(request(), "GET"), 400},
		"two keys":                         {request(key + ": dGhlIHNhbXBsZSBub25jZQ=="), 400},
		"two versions":                     {request(version + ": 13"), 400},
		"another version":                  {line(version, version+": 8"), 400},
		"versions in a list":               {line(version, version+": 13, 8"), 400},
		"key of 15 bytes":                  {line(key, key+": AAAAAAAAAAAAAAAAAAAA"), 400},
		"key that is no base64":            {line(key, key+": !!!!!!!!!!!!!!!!!!!!!!=="), 400},
		"no key":                           {line(key, ""), 400},
		"Upgrade twice":                    {request(upgrade + ": websocket"), 101}, // a list: RFC 9110, section 5.3
		"Upgrade among others":             {line(upgrade, upgrade+": h2c, websocket"), 101},
		"Upgrade to h2c":                   {line(upgrade, upgrade+": h2c"), 400},
		"Upgrade to nearly it":             {line(upgrade, upgrade+": websockets"), 400},
		"Connection without it":            {line("Connection", "Connection: keep-alive"), 400},
		"Connection: close beside it":      {line("Connection", "Connection: close, Upgrade"), 101},
		"no Upgrade":                       {line(upgrade, ""), 400},
		"head of 64 KiB in one line":       {request("X: " + strings.Repeat("x", 64<<10)), 431},
		"head of 10,000 lines":             {request(strings.Split(strings.Repeat("X: y\n", 10000), "\n")[:10000]...), 431},
		"target of 64 KiB":                 {get(api.ConnectPath + "?" + strings.Repeat("x", 64<<10)), 431},
		"5,000 lines":                      {request(strings.Split(strings.Repeat("X:\n", 5000), "\n")[:5000]...), 101},
		"a TLS handshake, or none":         {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 100) + "\r\n\r\n", 400},
		"bytes":                            {strings.Repeat("\xff\x00", 500) + "\r\n\r\n", 400},
		"Trailer without a body":           {request("Trailer: Content-Length"), 101},
		"Expect: 100-continue and no body": {request("Expect: 100-continue"), 101},
		"Expect: something":                {request("Expect: something"), 417},
	}
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := n.dial(t)
				p.write(tc.request)
				if tc.status == http.StatusSwitchingProtocols {
					p.upgraded()
					p.text(keyHello)
					p.welcomed()
					return
				}
				status, closed := p.refused()
				if status != tc.status {
					t.Errorf("status %d, want %d", status, tc.status)
				}
				if closed {
					p.halfClose() // no more of a body will come
					if rest, _ := io.ReadAll(p.in); len(rest) > 0 {
						t.Errorf("after the answer: %.300q", rest)
					}
					return
				}
				// Where the connection stays, the next request is ours, and the next answer is to it.
				p.write("GET /healthz-of-nobody HTTP/1.1\r\nHost: x\r\nX-Mark: 1\r\nConnection: close\r\n\r\n")
				if status, closed := p.refused(); status != http.StatusNotFound || !closed {
					t.Errorf("the next answer on the connection: %d, closed=%v", status, closed)
				}
				if rest, _ := io.ReadAll(p.in); len(rest) > 0 {
					t.Errorf("one answer too many: %.300q", rest)
				}
			})
		}
	})
}

// TestRefusalsAreJSON: what the gateway itself refuses has the body that the protocol page promises.
func TestRefusalsAreJSON(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		p := n.dial(t)
		p.write(line("Sec-WebSocket-Version", "Sec-WebSocket-Version: 12"))
		resp, err := http.ReadResponse(p.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.Header.Get("Sec-Websocket-Version") != "13" || resp.Header.Get("Content-Type") != "application/json" ||
			!strings.Contains(string(body), `"statusCode":400,"code":"validation_error"`) {
			t.Errorf("%v %s %v", resp.Header, body, err)
		}
	})
}

// TestOffers: no extension is ever accepted, and a subprotocol only when it is ours.
func TestOffers(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for offer, chosen := range map[string]string{
			"Sec-WebSocket-Extensions: permessage-deflate":                                                 "",
			"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits; server_max_window_bits": "",
			"Sec-WebSocket-Extensions: permessage-deflate, x-webkit-deflate-frame":                         "",
			"Sec-WebSocket-Protocol: rollcall.session.v1":                                                  "rollcall.session.v1",
			"Sec-WebSocket-Protocol: chat, rollcall.session.v1":                                            "rollcall.session.v1",
			"Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: rollcall.session.v1":                  "rollcall.session.v1",
			"Sec-WebSocket-Protocol: Rollcall.Session.V1":                                                  "",
			"Sec-WebSocket-Protocol: rollcall.session.v2":                                                  "",
			"Sec-WebSocket-Protocol: " + strings.Repeat("x,", 5000):                                        "",
		} {
			p := n.dial(t)
			p.write(request(offer))
			resp, err := http.ReadResponse(p.in, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header["Sec-Websocket-Extensions"] != nil || resp.Header.Get("Sec-Websocket-Protocol") != chosen {
				t.Errorf("%.100s: %d %v", offer, resp.StatusCode, resp.Header)
			}
			p.text(keyHello)
			p.welcomed()
			if strings.Contains(offer, "deflate") { // a compressed hello's first bits
				p.write(frame(0xc1, "\xaa\x56\x2a\x48\xac\xcc\xc9\x4f\x4c\x51\xb2\x52\x4a"))
				p.ends(1002)
			}
		}
	})
}

// TestEarlyBytes: frames that come in one packet with the upgrade, or in pieces cut anywhere, are read as if they had come later.
func TestEarlyBytes(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		whole := request() + frame(0x81, keyHello) + frame(0x89, "early")
		read := func(p *peer) {
			p.t.Helper()
			p.upgraded()
			p.welcomed()
			if got := p.next(); got != "pong early" {
				p.t.Errorf("got %s", got)
			}
			p.write(frame(0x88, ""))
			p.rest()
			p.Close()
		}
		t.Run("in one packet", func(t *testing.T) {
			p := n.dial(t)
			p.write(whole)
			read(p)
		})
		t.Run("with more behind it", func(t *testing.T) {
			p := n.dial(t)
			p.write(whole + strings.Repeat(frame(0x81, unknown(1000)), 20))
			p.upgraded()
			p.welcomed()
			p.next()
			for range 20 {
				if got := p.next(); got != invalid {
					t.Fatal(got)
				}
			}
		})
		t.Run("a second request behind it", func(t *testing.T) { // its G is a reserved opcode
			p := n.dial(t)
			p.write(request() + request())
			p.upgraded()
			p.ends(1002)
		})
		t.Run("an upgrade behind another request", func(t *testing.T) {
			p := n.dial(t)
			p.write("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n" + whole)
			if status, closed := p.refused(); status != http.StatusNotFound || closed {
				t.Fatal(status, closed)
			}
			read(p)
		})
		t.Run("byte by byte", func(t *testing.T) {
			p := n.dial(t)
			p.drip(whole)
			read(p)
		})
		t.Run("in two", func(t *testing.T) {
			for at := range whole {
				t.Run(strconv.Itoa(at), func(t *testing.T) {
					t.Parallel()
					p := n.dial(t)
					p.write(whole[:at])
					// The pause makes it likely that the server reads the pieces apart; what must come of it is the same.
					time.Sleep(time.Millisecond)
					p.write(whole[at:])
					read(p)
				})
			}
		})
	})
}

// TestOrigins: what counts as one of allowedOrigins, which are set in any spelling.
func TestOrigins(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		status, body := n.Do(t, testkit.Key, http.MethodPatch, "/api/v1/applications/"+testkit.App.String(),
			map[string]any{"allowedOrigins": []string{"https://App.example.com:443", "http://localhost:3000"}})
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, body)
		}
		for origin, welcome := range map[string]bool{
			"":                                                                         true, // no browser
			"Origin: https://app.example.com":                                          true,
			"Origin: HTTPS://APP.EXAMPLE.COM":                                          true,
			"origin: https://app.example.com":                                          true,
			"Origin: http://localhost:3000":                                            true,
			"Origin:    https://app.example.com  ":                                     true,
			"Origin: null":                                                             false,
			"Origin:":                                                                  false,
			"Origin: http://app.example.com":                                           false,
			"Origin: https://app.example.com/":                                         false,
			"Origin: https://app.example.com.":                                         false,
			"Origin: https://app.example.com:8443":                                     false,
			"Origin: https://app.example.com.evil.io":                                  false,
			"Origin: https://evil.app.example.com":                                     false,
			"Origin: https://evil.io/app.example.com":                                  false,
			"Origin: https://evil.io#https://app.example.com":                          false,
			"Origin: https://app.example.com@evil.io":                                  false,
			"Origin: https://user@app.example.com":                                     false,
			"Origin: app.example.com":                                                  false,
			"Origin: //app.example.com":                                                false,
			"Origin: file://":                                                          false,
			"Origin: *":                                                                false,
			"Origin: http://localhost":                                                 false,
			"Origin: http://localhost:30000":                                           false,
			"Origin: https://app.example.com, https://evil.io":                         false,
			"Origin: https://app.example.com https://evil.io":                          false,
			"Origin: https://evil.io\r\nOrigin: https://app.example.com":               false,
			"Origin: https://app.example.com\r\nOrigin: https://app.example.com":       false,
			"Origin: https://\u0430pp.example.com":                                     false, // a Cyrillic a
			"X-Forwarded-Origin: https://app.example.com\r\nOrigin: https://evil.io":   false,
			"Sec-WebSocket-Origin: https://app.example.com\r\nOrigin: https://evil.io": false,
			"Referer: https://app.example.com/x\r\nOrigin: https://evil.io":            false,
			"Cookie: token=" + testkit.PublishableKey + "\r\nOrigin: https://evil.io":  false,
			"Cookie: a=b; session=1\r\nCookie: c=d\r\nOrigin: https://app.example.com": true,
			"Origin: https://app.example.com:443":                                      true,
			"Origin: http://localhost:03000":                                           false,
		} {
			t.Run(origin, func(t *testing.T) {
				var headers []string
				if origin != "" {
					headers = []string{origin}
				}
				p := n.connect(t, headers...) // it is judged once hello has named the application
				p.text(keyHello)
				if welcome {
					p.welcomed()
					return
				}
				if got := p.next(); !strings.Contains(got, `"code":"origin_forbidden"`) {
					t.Error(got)
				}
				p.ends(4203)
			})
		}
	})
}

// TestCookiesAreIgnored: a cookie is no credential, whatever it is called.
func TestCookiesAreIgnored(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		token := testkit.Token(t, nil)
		p := n.connect(t, "Cookie: token="+token+"; Authorization=Bearer "+token, "Cookie: publishableKey="+testkit.PublishableKey)
		p.text(hello(`"application":"` + testkit.Number + `"`))
		if got := p.next(); !strings.Contains(got, `"code":"token_invalid"`) {
			t.Error(got)
		}
		p.ends(4203)

		req := "GET " + api.LivePath + "?applicationId=" + testkit.Number + " HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.io\r\n" +
			"Cookie: key=" + testkit.Key + "; Authorization=Bearer " + testkit.Key + "\r\n\r\n"
		p = n.dial(t)
		p.write(req)
		if status, _ := p.refused(); status != http.StatusUnauthorized {
			t.Errorf("a key in a cookie: %d", status)
		}
	})
}
