package hostile

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/gateway"
	"github.com/rollcallhq/rollcall/internal/testkit"
)

// forge makes a token of a header and claims that are written out, signed with a secret.
func forge(secret, header, claims string) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(header)) + "." + encode([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

// claims writes claims for App: those of a good token, with more in front, which a JSON parser may let win or lose.
func claims(more string) string {
	now := time.Now().Unix()
	return fmt.Sprintf(`{%s"iat":%d,"exp":%d,"aud":%q,"sub":"john@example.com"}`, more, now, now+3600, testkit.App)
}

// timed writes claims with these two.
func timed(iat, exp string) string {
	return fmt.Sprintf(`{"iat":%s,"exp":%s,"aud":%q}`, iat, exp, testkit.App)
}

// sign makes a token of another algorithm.
func sign(t *testing.T, method jwt.SigningMethod, key any) string {
	t.Helper()
	token := jwt.NewWithClaims(method, jwt.MapClaims{"aud": testkit.App.String(), "iat": time.Now().Unix(), "exp": time.Now().Unix() + 3600})
	signed, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

const hs256 = `{"alg":"HS256","typ":"JWT"}`

// badTokens are tokens, each with the code that refuses it.
func badTokens(t *testing.T, n node) map[string]struct {
	token string
	code  api.Code
} {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	publicPEM := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	var issued api.TokenReply // by Rollcall, for App, taken apart below
	status, body := n.Do(t, testkit.Key, http.MethodPost, "/api/v1/applications/"+testkit.App.String()+"/session-tokens", map[string]any{"expiresIn": 60})
	if err := json.Unmarshal(body, &issued); err != nil || status != http.StatusCreated && status != http.StatusOK {
		t.Fatalf("issue a token: %d %s", status, body)
	}
	now, at := time.Now(), func(d time.Duration) string { return fmt.Sprintf("%.3f", float64(time.Now().Add(d).UnixMilli())/1000) }
	good := forge(testkit.Secret, hs256, claims(""))
	parts, own := strings.Split(good, "."), strings.Split(issued.Token, ".")
	type row = struct {
		token string
		code  api.Code
	}
	rows := map[string]row{
		"expired by a millisecond": {forge(testkit.Secret, hs256, timed(at(-time.Minute), at(-time.Millisecond))), api.CodeTokenExpired},
		"expired by a second":      {forge(testkit.Secret, hs256, timed(at(-time.Minute), at(-time.Second))), api.CodeTokenExpired},
		"no audience":              {forge(testkit.Secret, hs256, fmt.Sprintf(`{"iat":%d,"exp":%d}`, now.Unix(), now.Unix()+60)), api.CodeApplicationUnknown},
		"audience unknown":         {testkit.Token(t, map[string]any{"aud": "nobody"}), api.CodeApplicationUnknown},
	}
	for name, token := range map[string]string{
		"empty":                               "",
		"no JWT":                              "hello",
		"dots":                                "..",
		"many dots":                           strings.Repeat(".", 8000),
		"16 KiB":                              strings.Repeat("A", 16000),
		"16 KiB of claims, signed":            forge(testkit.Secret, hs256, claims(`"x":"`+strings.Repeat("x", 11000)+`",`)),
		"8193 bytes":                          good + strings.Repeat("A", api.MaxToken+1-len(good)),
		"control characters":                  "a\u0000b\r\nc",
		"none":                                sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"None":                                forge("", `{"alg":"None"}`, claims("")),
		"nOnE":                                forge("", `{"alg":"nOnE"}`, claims("")),
		"none with our signature":             forge(testkit.Secret, `{"alg":"none"}`, claims("")),
		"alg of two":                          forge(testkit.Secret, `{"alg":["HS256","none"]}`, claims("")),
		"alg null":                            forge(testkit.Secret, `{"alg":null}`, claims("")),
		"hs256":                               forge(testkit.Secret, `{"alg":"hs256"}`, claims("")),
		"no signature":                        parts[0] + "." + parts[1] + ".",
		"signature of another token":          parts[0] + "." + parts[1] + "." + strings.Split(testkit.Token(t, nil), ".")[2][:42] + "A",
		"HS256 signed with a public key":      forge(publicPEM, hs256, claims("")),
		"HS256 signed with DER":               forge(string(der), hs256, claims("")),
		"HS256 signed with Ed25519's key":     forge(string(public), hs256, claims("")),
		"empty secret":                        forge("", hs256, claims("")),
		"secret with a NUL":                   forge(testkit.Secret+"\x00x", hs256, claims("")),
		"another application's secret":        forge(testkit.OtherSecret, hs256, claims("")),
		"signed with the publishable key":     forge(testkit.PublishableKey, hs256, claims("")),
		"HS384":                               sign(t, jwt.SigningMethodHS384, []byte(testkit.Secret)),
		"HS512":                               sign(t, jwt.SigningMethodHS512, []byte(testkit.Secret)),
		"RS256":                               sign(t, jwt.SigningMethodRS256, rsaKey),
		"PS256":                               sign(t, jwt.SigningMethodPS256, rsaKey),
		"EdDSA":                               sign(t, jwt.SigningMethodEdDSA, edKey),
		"RS256 that HS256 signed":             forge(testkit.Secret, `{"alg":"RS256"}`, claims("")),
		"HS256 twice, none last":              forge("", `{"alg":"HS256","alg":"none"}`, claims("")),
		"kid of Rollcall, foreign signature":  forge(testkit.Secret, `{"alg":"HS256","kid":"rollcall"}`, claims(`"epoch":0,`)),
		"kid of Rollcall, empty secret":       forge("", `{"alg":"HS256","kid":"rollcall"}`, claims(`"epoch":0,`)),
		"Rollcall's without its kid":          forge(testkit.Secret, hs256, "")[:len(base64.RawURLEncoding.EncodeToString([]byte(hs256)))] + "." + own[1] + "." + own[2],
		"Rollcall's header on foreign claims": own[0] + "." + parts[1] + "." + parts[2],
		"Rollcall's with other claims":        own[0] + "." + parts[1] + "." + own[2],
		"kid a path":                          forge("", `{"alg":"HS256","kid":"../../../../../../dev/null"}`, claims("")),
		"kid SQL":                             forge("x", `{"alg":"HS256","kid":"x' UNION SELECT 'x"}`, claims("")),
		"kid number":                          forge(testkit.Secret, `{"alg":"HS256","kid":1}`, claims("")),
		"kid object":                          forge(testkit.Secret, `{"alg":"HS256","kid":{"k":"rollcall"}}`, claims("")),
		"crit":                                forge(testkit.Secret, `{"alg":"HS256","crit":["exp"]}`, claims("")),
		"header list":                         forge(testkit.Secret, `["HS256"]`, claims("")),
		"header deep":                         forge(testkit.Secret, `{"alg":"HS256","x":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000)+`}`, "["),
		"claims list":                         forge(testkit.Secret, hs256, `[]`),
		"exp missing":                         forge(testkit.Secret, hs256, fmt.Sprintf(`{"iat":%d,"aud":%q}`, now.Unix(), testkit.App)),
		"iat missing":                         forge(testkit.Secret, hs256, fmt.Sprintf(`{"exp":%d,"aud":%q}`, now.Unix()+60, testkit.App)),
		"exp a string":                        forge(testkit.Secret, hs256, timed(at(0), `"9999999999"`)),
		"exp NaN":                             forge(testkit.Secret, hs256, timed(at(0), `NaN`)),
		"exp 1e400":                           forge(testkit.Secret, hs256, timed(at(0), `1e400`)),
		"exp Infinity":                        forge(testkit.Secret, hs256, timed(at(0), `Infinity`)),
		"exp in milliseconds":                 forge(testkit.Secret, hs256, timed(at(0), fmt.Sprint(now.UnixMilli()+60000))),
		"exp true":                            forge(testkit.Secret, hs256, timed(at(0), `true`)),
		"iat an hour ahead":                   forge(testkit.Secret, hs256, timed(at(time.Hour), at(2*time.Hour))),
		"iat a string":                        forge(testkit.Secret, hs256, timed(`"0"`, at(time.Hour))),
		"iat -1e400":                          forge(testkit.Secret, hs256, timed(`-1e400`, at(time.Hour))),
		"nbf an hour ahead":                   forge(testkit.Secret, hs256, claims(`"nbf":`+at(time.Hour)+`,`)),
		"jti of 4 KiB":                        forge(testkit.Secret, hs256, claims(`"jti":"`+strings.Repeat("j", 4096)+`",`)),
		"jti number":                          forge(testkit.Secret, hs256, claims(`"jti":1,`)),
		"license of 300":                      forge(testkit.Secret, hs256, claims(`"license":"`+strings.Repeat("l", 300)+`",`)),
		"cid of three":                        forge(testkit.Secret, hs256, claims(`"cid":"abc",`)),
		"cid invisible":                       forge(testkit.Secret, hs256, claims(`"cid":"abc\u202edef",`)),
		"sub number":                          testkit.Token(t, map[string]any{"sub": 5}),
		"sub object":                          testkit.Token(t, map[string]any{"sub": map[string]any{"$ne": nil}}),
		"sub of 300":                          testkit.Token(t, map[string]any{"sub": strings.Repeat("s", 300)}),
		"sub not UTF-8":                       forge(testkit.Secret, hs256, claims("\"name\":\"\xff\",")),
		"for another application":             testkit.Token(t, map[string]any{"aud": testkit.Second.String()}) + "x",
		"for another organization":            testkit.Token(t, map[string]any{"aud": testkit.OtherApp.String()}),
		"for another organization by number":  testkit.Token(t, map[string]any{"aud": testkit.OtherNumber}),
		"aud a number":                        testkit.Token(t, map[string]any{"aud": 123456789}),
		"aud with an object":                  testkit.Token(t, map[string]any{"aud": []any{testkit.App.String(), map[string]any{}}}),
	} {
		rows[name] = row{token, api.CodeTokenInvalid}
	}
	return rows
}

// TestBadTokens: every one is told with its own code and 4203, in hello and on the upgrade; none is ever malformed.
func TestBadTokens(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for name, tc := range badTokens(t, n) {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				refused := func(p *peer) {
					t.Helper()
					if got := p.next(); !strings.HasPrefix(got, fmt.Sprintf(`{"type":"error","code":%q,`, tc.code)) ||
						len(tc.token) > 100 && strings.Contains(got, tc.token[:100]) {
						t.Errorf("got %.300s, want %s", got, tc.code)
					}
					p.ends(4203)
				}
				text, err := json.Marshal(tc.token)
				if err != nil {
					t.Fatal(err)
				}
				p := n.connect(t)
				p.text(hello(`"token":` + string(text)))
				refused(p)
				if name == "control characters" { // no header has them
					return
				}
				p = n.connect(t, "Authorization: Bearer "+tc.token)
				p.text(hello(`"clientId":"client-001"`))
				refused(p)
			})
		}
	})
}

// TestOddTokens: what is unusual in a token and harmless is taken, as its standards say.
func TestOddTokens(t *testing.T) {
	t.Parallel()
	// What a header asks the server to fetch, it does not.
	bait, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan struct{})
	go func() { // ends when the test closes the listener
		defer close(taken)
		if conn, err := bait.Accept(); err == nil {
			t.Error("the server fetched what a token's header names")
			conn.Close()
		}
	}()
	t.Cleanup(func() { bait.Close(); <-taken })
	url := "http://" + bait.Addr().String()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		now := time.Now().Unix()
		for name, tc := range map[string]struct{ token, login string }{
			"iat 4 s ahead":          {forge(testkit.Secret, hs256, timed(fmt.Sprint(now+4), fmt.Sprint(now+60))), ""},
			"nbf 4 s ahead":          {forge(testkit.Secret, hs256, claims(fmt.Sprintf(`"nbf":%d,`, now+4))), "john@example.com"},
			"the last sub counts":    {forge(testkit.Secret, hs256, claims(`"sub":"eve@example.com",`)), "john@example.com"}, // RFC 7519, section 4
			"unknown kid":            {forge(testkit.Secret, `{"alg":"HS256","kid":"../../etc/passwd"}`, claims("")), "john@example.com"},
			"jku, x5u, jwk":          {forge(testkit.Secret, `{"alg":"HS256","jku":"`+url+`","x5u":"`+url+`","jwk":{"kty":"oct","k":"AAAA"}}`, claims("")), "john@example.com"},
			"typ unknown":            {forge(testkit.Secret, `{"typ":"at+jwt","alg":"HS256"}`, claims("")), "john@example.com"},
			"unknown claims, deep":   {forge(testkit.Secret, hs256, claims(`"x":`+strings.Repeat("[", 500)+strings.Repeat("]", 500)+`,`)), "john@example.com"},
			"as long as may be":      {forge(testkit.Secret, hs256, claims(`"x":"`+strings.Repeat("x", 5900)+`",`)), "john@example.com"},
			"exp with a fraction":    {forge(testkit.Secret, hs256, timed(fmt.Sprint(now), fmt.Sprint(now+60)+".5")), ""},
			"exp with an exponent":   {forge(testkit.Secret, hs256, timed(fmt.Sprint(now), "2e9")), ""},
			"iat long ago":           {forge(testkit.Secret, hs256, timed("-1000", fmt.Sprint(now+60))), ""},
			"audiences, ours is one": {testkit.Token(t, map[string]any{"aud": []string{"https://example.com", testkit.Number}}), "john@example.com"},
		} {
			t.Run(name, func(t *testing.T) {
				p := n.openWith(t, hello(`"token":"`+tc.token+`"`))
				if d := n.session(t, p.id).Details; !d.Authorized || tc.login != "" && (d.Login == nil || *d.Login != tc.login) {
					t.Errorf("details %+v", d)
				}
			})
		}
	})
}

// TestBadHellos: what is no credential but malformed is 4302 and named; what is a credential is 4203.
func TestBadHellos(t *testing.T) {
	t.Parallel()
	key := `"publishableKey":"` + testkit.PublishableKey + `"`
	good := testkit.Token(t, nil)
	nested := func(depth int) string {
		return strings.Repeat(`{"a":`, depth) + "1" + strings.Repeat("}", depth)
	}
	info := func(size int) string { return `{"a":"` + strings.Repeat("x", size-8) + `"}` }
	cases := map[string]struct {
		hello string
		code  int
		says  string // in the error or the reason
	}{
		"key in capitals":                {hello(`"publishableKey":"` + strings.ToUpper(testkit.PublishableKey) + `"`), 4203, "publishable_key_invalid"},
		"key with a capital":             {hello(`"publishableKey":"rca_0123456789abcdeF"`), 4203, "publishable_key_invalid"},
		"key with a space":               {hello(`"publishableKey":"` + testkit.PublishableKey + ` "`), 4203, "publishable_key_invalid"},
		"key unknown":                    {hello(`"publishableKey":"rca_zzzzzzzzzzzzzzzz"`), 4203, "publishable_key_invalid"},
		"key of 10 KB":                   {hello(`"publishableKey":"rca_` + strings.Repeat("0", 10000) + `"`), 4203, "publishable_key_invalid"},
		"an API key":                     {hello(`"publishableKey":"` + testkit.Key + `"`), 4203, "publishable_key_invalid"},
		"key of another application":     {hello(`"publishableKey":"rca_other00123456789","application":"` + testkit.Number + `"`), 4203, "publishable_key_invalid"},
		"key and another's token":        {hello(`"publishableKey":"rca_0123456789abcdeg","token":"` + good + `"`), 4203, "publishable_key_invalid"},
		"bad key beside a good token":    {hello(`"publishableKey":"rca_x","token":"` + good + `"`), 4203, "publishable_key_invalid"},
		"bad token beside a good key":    {hello(key + `,"token":"x"`), 4203, "token_invalid"},
		"application unknown":            {hello(`"token":"` + good + `","application":"1"`), 4203, "application_unknown"},
		"application with a wildcard":    {hello(`"token":"` + good + `","application":"%"`), 4203, "application_unknown"},
		"application of another org":     {hello(`"token":"` + good + `","application":"` + testkit.OtherNumber + `"`), 4203, "token_invalid"},
		"application and aud apart":      {hello(`"token":"` + good + `","application":"` + testkit.Second.String() + `"`), 4203, "token_invalid"},
		"lone surrogate in a token":      {hello(`"token":"\ud800"`), 4203, "token_invalid"},
		"nothing":                        {`{"type":"hello"}`, 4203, "token_invalid"},
		"names in capitals":              {`{"type":"hello","PublishableKey":"` + testkit.PublishableKey + `"}`, 4203, "token_invalid"},
		"token number":                   {hello(`"token":1`), 4302, "token must be a string"},
		"token twice":                    {hello(`"token":"x","token":"` + good + `"`), 4302, "token must be given once"},
		"type twice":                     {`{"type":"hello",` + key + `,"type":"hello"}`, 4302, "type must be given once"},
		"type escaped, twice":            {`{"type":"hello",` + key + `,"\u0074ype":"bye"}`, 4302, "type must be given once"},
		"key list":                       {hello(`"publishableKey":["` + testkit.PublishableKey + `"]`), 4302, "publishableKey must be a string"},
		"application number":             {hello(key + `,"application":123456789`), 4302, "application must be a string"},
		"clientId of three":              {hello(key + `,"clientId":"abc"`), 4302, "clientId"},
		"clientId of 65":                 {hello(key + `,"clientId":"` + strings.Repeat("x", 65) + `"`), 4302, "clientId"},
		"clientId with a line break":     {hello(key + `,"clientId":"abc\ndef"`), 4302, "clientId"},
		"clientId with a bidi override":  {hello(key + `,"clientId":"abc\u202edef"`), 4302, "clientId"},
		"clientId of invisible spaces":   {hello(key + `,"clientId":"\u200b\u200b\u200b\u200b"`), 4302, "clientId"},
		"name of 257":                    {hello(key + `,"name":"` + strings.Repeat("x", 257) + `"`), 4302, "name"},
		"name of 129 é":                  {hello(key + `,"name":"` + strings.Repeat("é", 129) + `"`), 4302, "name"},
		"name of half a pair":            {hello(key + `,"name":"\ud83d"`), 4302, "name"},
		"name of the other half":         {hello(key + `,"name":"\ude00\ud83d"`), 4302, "name"},
		"hostname list":                  {hello(key + `,"hostname":["a"]`), 4302, "hostname"},
		"userAgent of 16 KB":             {hello(key + `,"userAgent":"` + strings.Repeat("x", 16000) + `"`), 4302, "userAgent"},
		"clientInfo of 4097":             {hello(key + `,"clientInfo":` + info(4097)), 4302, "clientInfo"},
		"clientInfo of 16 KB":            {hello(key + `,"clientInfo":` + info(16000)), 4302, "clientInfo"},
		"clientInfo of five levels":      {hello(key + `,"clientInfo":` + nested(5)), 4302, "clientInfo"},
		"clientInfo of 2,500 levels":     {hello(key + `,"clientInfo":` + nested(2500)), 4302, "clientInfo"},
		"clientInfo of lists":            {hello(key + `,"clientInfo":{"a":` + strings.Repeat("[", 7000) + strings.Repeat("]", 7000) + `}`), 4302, "clientInfo"},
		"clientInfo list":                {hello(key + `,"clientInfo":[]`), 4302, "clientInfo"},
		"clientInfo string":              {hello(key + `,"clientInfo":"{}"`), 4302, "clientInfo"},
		"clientInfo twice":               {hello(key + `,"clientInfo":{},"clientInfo":{}`), 4302, "clientInfo must be given once"},
		"15,000 levels":                  {hello(`"x":` + strings.Repeat("[", 15000)), 4300, ""},
		"two objects":                    {keyHello + keyHello, 4300, ""},
		"a comma too many":               {hello(key + `,`), 4300, ""},
		"a comment":                      {"/**/" + keyHello, 4300, ""},
		"a byte order mark":              {"\ufeff" + keyHello, 4300, ""},
		"UTF-16":                         {"\x00{\x00}", 4300, ""},
		"a raw line break in a string":   {hello("\"name\":\"a\nb\""), 4300, ""},
		"NaN":                            {hello(`"x":NaN`), 4300, ""},
		"a list":                         {"[" + keyHello + "]", 4300, ""},
		"null":                           {"null", 4300, ""},
		"type number":                    {`{"type":1}`, 4300, ""},
		"type null":                      {`{"type":null}`, 4300, ""},
		"type with a lone surrogate":     {`{"type":"hello\ud800"}`, 4300, ""},
		"activity before hello":          {`{"type":"activity"}`, 4200, ""},
		"authorize before hello":         {`{"type":"authorize","token":"` + good + `"}`, 4200, ""},
		"bye before hello":               {`{"type":"bye"}`, 4200, ""},
		"a server's frame":               {`{"type":"welcome"}`, 4200, ""},
		"an operator's frame":            {`{"type":"disconnect_session","serverId":"x"}`, 4200, ""},
		"a prototype":                    {`{"__proto__":{"type":"hello"},"type":"__proto__"}`, 4200, ""},
		"more than a message":            {hello(key + `,"x":"` + strings.Repeat("x", api.MaxFrame) + `"`), 1009, ""},
		"10,000 fields, some twice":      {`{"type":"hello",` + strings.Repeat(`"x":1,"y":2,`, 1300) + key + `,"name":1}`, 4302, "name"},
		"number of 10,000 digits":        {hello(key + `,"x":` + strings.Repeat("9", 10000) + `,"name":1`), 4302, "name"},
		"a thousand backslashes in keys": {hello(key + `,"` + strings.Repeat(`\\`, 5000) + `":1,"name":1`), 4302, "name"},
	}
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := n.connect(t)
				p.text(tc.hello)
				p.text(keyHello) // nothing after the mistake is heard
				got := p.rest()
				if len(got) < 3 || strings.Contains(got[0], "welcome") || !strings.Contains(got[0], tc.says) {
					t.Errorf("got %.400q, want %q", got, tc.says)
				}
				if len(got) >= 3 && (got[len(got)-1] != "EOF" || !strings.HasPrefix(got[len(got)-2], fmt.Sprint("close ", tc.code))) {
					t.Errorf("got %.400q, want %d", got, tc.code)
				}
			})
		}
	})
}

// TestOrderOfFrames: hello comes first and once, and nothing after the end is heard.
func TestOrderOfFrames(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		p := n.open(t)
		p.text(keyHello)
		if got := p.next(); got != `{"type":"error","code":"validation_error","message":"type must not be hello: the session is open"}` {
			t.Error(got)
		}
		p.alive()
		p.text(`{"type":"bye"}`)
		p.text(keyHello)
		p.text(`{"type":"update","name":"late"}`)
		if diff := cmp.Diff([]string{"close 1000", "EOF"}, p.rest()); diff != "" {
			t.Error(diff)
		}
		n.wantEnd(t, p.id, api.EndClientClosed)
		if s := n.session(t, p.id); s.Name == "late" {
			t.Error("a frame after bye was heard")
		}

		p = n.connect(t) // two hellos in one packet: the second is answered after the first
		p.write(frame(0x81, keyHello) + frame(0x81, keyHello) + frame(0x81, `{"type":"bye"}`) + frame(0x81, keyHello))
		p.welcomed()
		if got := p.next(); !strings.Contains(got, "must not be hello") {
			t.Error(got)
		}
		if diff := cmp.Diff([]string{"close 1000", "EOF"}, p.rest()); diff != "" {
			t.Error(diff)
		}

		p = n.open(t) // an operator ends it; what the client says then does not change how
		frames := frame(0x81, `{"type":"bye"}`) + frame(0x81, keyHello)
		n.Do(t, testkit.Key, http.MethodDelete, "/api/v1/applications/"+testkit.App.String()+"/sessions/"+p.id, nil)
		p.write(frames)
		p.ends(4100)
		n.wantEnd(t, p.id, api.EndDisconnected)
	})
}

// TestNames: what a client calls itself is text to us. It comes back as it was given, over HTTP and in a stream, alters nothing
// else, and breaks no log.
func TestNames(t *testing.T) {
	t.Parallel()
	names := []string{
		"a\r\nlevel=ERROR msg=\"panic\"", "tab\tbell\a\x1b[31mred\x1b[0m\x7f", "\u202eevil\u202c", "\u2066x\u2069\u200b\u200f\ufeff",
		"<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "&lt;&amp;", "</script><!--", "{{7*7}} ${7*7} #{7*7} %{7*7}", "%s%n%d", "%00%0a",
		"'; DROP TABLE sessions; --", "=HYPERLINK(\"http://evil\")", "../../../etc/passwd", "\\", "\\u0000", "null", "\u2028\u2029", "\u0085\u009f",
		"\ufffd", "\ufffe\uffff", "\U0001f600\U0010ffff", "e\u0301 é", "İıſK", "عربى עברית", strings.Repeat("ก็", 42), " leading and trailing ", " ",
		"a\x00b\x01\x01c", "\x01",
	}
	attack(t, plenty(gateway.Limits{}), func(t *testing.T, n node) {
		for i, name := range names {
			text, err := json.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			token := testkit.Token(t, map[string]any{"sub": name, "license": name, "jti": fmt.Sprint(name, i)})
			p := n.openWith(t, hello(fmt.Sprintf(`"token":%q,"name":%s,"hostname":%s,"userAgent":%s,"clientInfo":{"name":%s}`, token, text, text, text, text)))
			check := func(s api.Session) {
				t.Helper()
				var info struct{ Name string }
				if err := json.Unmarshal(s.ClientInfo, &info); err != nil {
					t.Fatal(err)
				}
				got := []string{s.Name, *s.Hostname, *s.UserAgent, *s.Details.Login, *s.Details.License, info.Name}
				if diff := cmp.Diff([]string{name, name, name, name, name, name}, got); diff != "" {
					t.Errorf("%q: %s", name, diff)
				}
			}
			check(n.session(t, p.id))
			var list api.LiveList
			n.Get(t, testkit.Key, api.LivePath+"?applicationId="+testkit.Number, &list)
			if row := list.Items[0]; *row.Login != name || *row.License != name {
				t.Errorf("%q: the row has %q and %q", name, *row.Login, *row.License)
			}
			p.text(`{"type":"update","name":"x","hostname":"y"}`)
			p.text(fmt.Sprintf(`{"type":"update","name":%s,"hostname":%s}`, text, text))
			p.alive() // it is recorded when the next frame is handled
			check(n.session(t, p.id))
			p.text(fmt.Sprintf(`{"type":%s}`, text)) // as a frame's type, a label of metrics if it were taken
			if got := p.next(); got != invalid {
				t.Errorf("%q as a type: %s", name, got)
			}
			p.text(`{"type":"bye"}`)
			p.rest()
			p.Close()
			check(n.session(t, p.id))
		}
	})
}

// TestClientInfo: the longest and the deepest that may be, kept as the client wrote them: order, spelling, repetition.
func TestClientInfo(t *testing.T) {
	t.Parallel()
	attack(t, gateway.Limits{}, func(t *testing.T, n node) {
		for _, info := range []string{
			`{}`, `{"b":1,"a":2,"b":3}`, `{"n":1.0,"m":1e2,"big":123456789012345678901234567890,"small":-0.0}`, `{"s":"\u0041\/\ud83d\ude00<&>"}`,
			`{"a":{"b":{"c":{}}}}`, `{"a":[[[1]]]}`, `{"":{"":[]}}`, `{"__proto__":{"x":1},"constructor":null}`, `{"half":"\ud800"}`,
			`{"a":"` + strings.Repeat("x", 4096-8) + `"}`, `{"a":"{[{[{[{["}`, `{"a":"\"{\\"}`,
		} {
			p := n.openWith(t, hello(`"publishableKey":"`+testkit.PublishableKey+`","clientInfo":`+info))
			status, body := n.Do(t, testkit.Key, http.MethodGet, "/api/v1/applications/"+testkit.App.String()+"/sessions/"+p.id, nil)
			if status != http.StatusOK || !strings.Contains(string(body), `"clientInfo":`+info) {
				t.Errorf("%.200s: %d %.2000s", info, status, body)
			}
		}
	})
}
