package tenant

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// raw joins parts as they are, with a true HS256 signature under the example's secret.
func raw(t *testing.T, header, payload string) string {
	t.Helper()
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc([]byte(header)) + "." + enc([]byte(payload))
	sig, err := jwt.SigningMethodHS256.Sign(signed, []byte(hsSecret))
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + enc(sig)
}

func TestVerifyGrants(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	more := m{"license": "ABCDEF-123456", "cid": "client-001", "name": "Mac", "jti": "one"}
	got, err := w.Verify(ctx, Credential{Token: sign(t, nil, more)})
	want(t, err, "", "")
	wantGrant := Grant{
		Application: w.app(appID), Authorized: true, IssuedAt: api.MillisOf(noon), TokenExpiresAt: api.MillisOf(noon.Add(time.Hour)),
		TokenID: "jti:one", Login: "john@example.com", License: "ABCDEF-123456", ClientID: "client-001", Name: "Mac",
	}
	if diff := cmp.Diff(wantGrant, got); diff != "" {
		t.Error(diff)
	}
	reply, err := w.IssueToken(w.app(appID), api.TokenInput{Login: "a", License: "b", ClientID: "client-002", Name: "d", ExpiresIn: 90})
	want(t, err, "", "")
	if reply.ExpiresAt != api.Timestamp(api.MillisOf(noon.Add(90*time.Second))) {
		t.Errorf("expires at %s", reply.ExpiresAt)
	}
	got, err = w.Verify(ctx, Credential{Token: reply.Token, Application: appNumber})
	want(t, err, "", "")
	wantGrant = Grant{
		Application: w.app(appID), Authorized: true, Rollcall: true, IssuedAt: api.MillisOf(noon),
		TokenExpiresAt: api.MillisOf(noon.Add(90 * time.Second)), TokenID: got.TokenID,
		Login: "a", License: "b", ClientID: "client-002", Name: "d",
	}
	if diff := cmp.Diff(wantGrant, got); diff != "" || !strings.HasPrefix(got.TokenID, "jti:") {
		t.Error(got.TokenID, diff)
	}
	got, err = w.Verify(ctx, Credential{PublishableKey: pubKey})
	want(t, err, "", "")
	if diff := cmp.Diff(Grant{Application: w.app(appID)}, got); diff != "" {
		t.Error(diff)
	}
	// A foreign token without jti is known by its hash; a time with a fraction is taken.
	got, err = w.Verify(ctx, Credential{Token: sign(t, nil, m{"iat": float64(noon.Unix()) - 0.25, "exp": float64(noon.Unix()) + 0.5, "sub": nil})})
	want(t, err, "", "")
	if !strings.HasPrefix(got.TokenID, "sha256:") || len(got.TokenID) != 7+64 || got.Login != "" ||
		got.IssuedAt != api.MillisOf(noon)-1000 || got.TokenExpiresAt != api.MillisOf(noon)+500 {
		t.Errorf("got %+v", got)
	}
}

func TestIssuedTokenLivesAsLongAsAsked(t *testing.T) {
	w := newWorld(t)
	w.clock.set(noon.Add(987 * time.Millisecond))
	token := w.issue(appID, api.TokenInput{ExpiresIn: 1})
	w.clock.set(noon.Add(1986 * time.Millisecond))
	_, err := w.Verify(t.Context(), Credential{Token: token})
	want(t, err, "", "")
	w.clock.set(noon.Add(1987 * time.Millisecond))
	_, err = w.Verify(t.Context(), Credential{Token: token})
	want(t, err, api.CodeTokenExpired, "")
}

func TestVerifyRefusesTokens(t *testing.T) {
	w := newWorld(t)
	good := sign(t, nil, nil)
	parts := strings.Split(good, ".")
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	want(t, err, "", "")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	want(t, err, "", "")
	now := noon.Unix()
	const invalid, expired = api.CodeTokenInvalid, api.CodeTokenExpired
	hs := `{"alg":"HS256"}`
	last := parts[2][len(parts[2])-1]
	// The last character of a 32-byte signature carries two bits that mean nothing.
	twin := string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", last)^1])
	for name, tc := range map[string]struct {
		token string
		code  api.Code
		text  string
	}{
		"good":                     {good, "", ""},
		"empty":                    {"", invalid, "required"},
		"no JWT":                   {"hello", invalid, "not a JWT"},
		"two parts":                {parts[0] + "." + parts[1], invalid, "not a JWT"},
		"four parts":               {good + ".x", invalid, "not a JWT"},
		"empty parts":              {"..", invalid, "not a JWT"},
		"too long":                 {sign(t, nil, m{"x": strings.Repeat("x", api.MaxToken)}), invalid, "at most 8192 bytes"},
		"not UTF-8":                {"\xff\xfe", invalid, "base64url"},
		"line break":               {parts[0] + ".\n" + parts[1] + "." + parts[2], invalid, "base64url"},
		"padding":                  {good + "=", invalid, "base64url"},
		"twin of the signature":    {good[:len(good)-1] + twin, invalid, ""},
		"Bearer before it":         {"Bearer " + good, invalid, "base64url"},
		"signature cut":            {good[:len(good)-4], invalid, ""},
		"no signature":             {parts[0] + "." + parts[1] + ".", invalid, "signature"},
		"wrong secret":             {signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 34)), nil, nil), invalid, "signature"},
		"empty secret":             {signWith(t, jwt.SigningMethodHS256, []byte{}, nil, m{"aud": otherApp}), invalid, "signature"},
		"alg none":                 {signWith(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, nil, nil), invalid, "alg must be HS256"},
		"alg None":                 {raw(t, `{"alg":"None"}`, "{}"), invalid, "alg must be HS256"},
		"alg missing":              {raw(t, `{"typ":"JWT"}`, "{}"), invalid, "alg must be HS256"},
		"alg number":               {raw(t, `{"alg":1}`, "{}"), invalid, "alg must be HS256"},
		"HS512":                    {signWith(t, jwt.SigningMethodHS512, []byte(hsSecret), nil, nil), invalid, "alg must be HS256"},
		"RS256":                    {signWith(t, jwt.SigningMethodRS256, rsaKey, nil, nil), invalid, "alg must be HS256"},
		"EdDSA":                    {signWith(t, jwt.SigningMethodEdDSA, edKey, nil, nil), invalid, "alg must be HS256"},
		"alg swapped":              {raw(t, `{"alg":"RS256"}`, `{"aud":"`+appText+`"}`), invalid, "alg must be HS256"},
		"another kid":              {sign(t, m{"kid": "mine"}, nil), "", ""},
		"kid of Rollcall":          {sign(t, m{"kid": "rollcall"}, m{"epoch": 0}), invalid, "signature"},
		"kid number":               {sign(t, m{"kid": 7}, nil), invalid, "kid must be a string"},
		"crit":                     {sign(t, m{"crit": []string{"exp"}}, nil), invalid, "crit"},
		"header null":              {raw(t, `null`, "{}"), invalid, ""},
		"header list":              {raw(t, `[]`, "{}"), invalid, "not a JWT"},
		"claims null":              {raw(t, hs, `null`), api.CodeApplicationUnknown, ""},
		"claims list":              {raw(t, hs, `[]`), invalid, "not a JWT"},
		"claims no JSON":           {raw(t, hs, `{"exp":`), invalid, "not a JWT"},
		"claims deep":              {raw(t, hs, strings.Repeat(`{"a":`, 1000)+"1"+strings.Repeat(`}`, 1000)), api.CodeApplicationUnknown, ""},
		"claims not UTF-8":         {raw(t, hs, `{"aud":"`+appText+`","exp":9999999999,"iat":1,"sub":"`+"\xff"+`"}`), invalid, "UTF-8"},
		"claims in capitals":       {sign(t, nil, m{"exp": nil, "EXP": now + 60}), invalid, "exp is required"},
		"exp missing":              {sign(t, nil, m{"exp": nil}), invalid, "claim exp is required"},
		"exp string":               {sign(t, nil, m{"exp": "9999999999"}), invalid, "claim exp must be a number"},
		"exp null":                 {sign(t, nil, m{"exp": json.RawMessage("null")}), invalid, "claim exp must be a number"},
		"exp object":               {sign(t, nil, m{"exp": m{}}), invalid, "claim exp must be a number"},
		"exp true":                 {sign(t, nil, m{"exp": true}), invalid, "claim exp must be a number"},
		"exp in milliseconds":      {sign(t, nil, m{"exp": (now + 60) * 1000}), invalid, "claim exp must be a number of seconds"},
		"exp huge":                 {sign(t, nil, m{"exp": math.MaxFloat64}), invalid, "claim exp must be a number of seconds"},
		"exp beyond floats":        {sign(t, nil, m{"exp": json.RawMessage("1e999")}), invalid, "claim exp must be a number of seconds"},
		"exp now":                  {sign(t, nil, m{"exp": now}), expired, "expired"},
		"exp a second ago":         {sign(t, nil, m{"exp": now - 1}), expired, ""},
		"exp in a second":          {sign(t, nil, m{"exp": now + 1}), "", ""},
		"exp zero":                 {sign(t, nil, m{"exp": 0}), expired, ""},
		"exp negative":             {sign(t, nil, m{"exp": -1}), expired, ""},
		"iat missing":              {sign(t, nil, m{"iat": nil}), invalid, "claim iat is required"},
		"iat string":               {sign(t, nil, m{"iat": "1"}), invalid, "claim iat must be a number"},
		"iat 5 s ahead":            {sign(t, nil, m{"iat": now + 5}), "", ""},
		"iat more than 5 s ahead":  {sign(t, nil, m{"iat": float64(now) + 5.1}), invalid, "iat lies in the future"},
		"iat long ago":             {sign(t, nil, m{"iat": 1}), "", ""},
		"nbf ahead":                {sign(t, nil, m{"nbf": now + 6}), invalid, "nbf lies in the future"},
		"nbf string":               {sign(t, nil, m{"nbf": "0"}), invalid, "nbf must be a number"},
		"nbf now":                  {sign(t, nil, m{"nbf": now + 5}), "", ""},
		"sub number":               {sign(t, nil, m{"sub": 5}), invalid, "claim sub must be a string"},
		"sub null":                 {sign(t, nil, m{"sub": json.RawMessage("null")}), invalid, "claim sub must be a string"},
		"sub too long":             {sign(t, nil, m{"sub": strings.Repeat("é", 129)}), invalid, "claim sub must be at most 256 bytes"},
		"sub as long as may be":    {sign(t, nil, m{"sub": strings.Repeat("é", 128)}), "", ""},
		"license list":             {sign(t, nil, m{"license": []string{"a"}}), invalid, "claim license must be a string"},
		"license too long":         {sign(t, nil, m{"license": strings.Repeat("x", 257)}), invalid, "claim license must be at most"},
		"name object":              {sign(t, nil, m{"name": m{}}), invalid, "claim name must be a string"},
		"name too long":            {sign(t, nil, m{"name": strings.Repeat("x", 257)}), invalid, "claim name must be at most"},
		"cid number":               {sign(t, nil, m{"cid": 12345}), invalid, "claim cid must be a string"},
		"cid empty":                {sign(t, nil, m{"cid": ""}), invalid, "claim cid must be 4 to 64 printable"},
		"cid too short":            {sign(t, nil, m{"cid": "abc"}), invalid, "claim cid must be 4 to 64 printable"},
		"cid too long":             {sign(t, nil, m{"cid": strings.Repeat("x", 65)}), invalid, "claim cid must be 4 to 64 printable"},
		"cid with a tab":           {sign(t, nil, m{"cid": "abc\td"}), invalid, "claim cid must be 4 to 64 printable"},
		"cid of 64 characters":     {sign(t, nil, m{"cid": strings.Repeat("é", 64)}), "", ""},
		"jti number":               {sign(t, nil, m{"jti": 1}), invalid, "claim jti must be a string"},
		"jti too long":             {sign(t, nil, m{"jti": strings.Repeat("x", 257)}), invalid, "claim jti must be at most"},
		"aud missing":              {sign(t, nil, m{"aud": nil}), api.CodeApplicationUnknown, ""},
		"aud unknown":              {sign(t, nil, m{"aud": "https://example.com"}), api.CodeApplicationUnknown, ""},
		"aud number type":          {sign(t, nil, m{"aud": 123456789}), invalid, "claim aud must be a string or a list"},
		"aud list with a number":   {sign(t, nil, m{"aud": []any{appText, 1}}), invalid, "claim aud must be a string or a list"},
		"aud null":                 {sign(t, nil, m{"aud": json.RawMessage("null")}), invalid, "claim aud must be a string or a list"},
		"aud list":                 {sign(t, nil, m{"aud": []string{"https://example.com", appText}}), "", ""},
		"aud list empty":           {sign(t, nil, m{"aud": []string{}}), api.CodeApplicationUnknown, ""},
		"aud the number":           {sign(t, nil, m{"aud": appNumber}), "", ""},
		"aud in capitals":          {sign(t, nil, m{"aud": strings.ToUpper(appText)}), "", ""},
		"for an application alone": {sign(t, nil, m{"aud": otherApp}), invalid, "signature"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Verify(t.Context(), Credential{Token: tc.token})
			want(t, err, tc.code, tc.text)
		})
	}
}

func TestVerifyRollcallTokens(t *testing.T) {
	w := newWorld(t)
	own := func(header, claims m) string {
		head, all := m{"kid": "rollcall"}, m{"epoch": 0}
		maps.Copy(head, header)
		maps.Copy(all, claims)
		return signWith(t, jwt.SigningMethodHS256, w.signingKey(appID), head, all)
	}
	for name, tc := range map[string]struct {
		token string
		code  api.Code
		text  string
	}{
		"good":              {own(nil, nil), "", ""},
		"kid missing":       {own(m{"kid": nil}, nil), api.CodeTokenInvalid, "signature"},
		"kid in capitals":   {own(m{"kid": "Rollcall"}, nil), api.CodeTokenInvalid, "signature"},
		"HS512":             {signWith(t, jwt.SigningMethodHS512, w.signingKey(appID), m{"kid": "rollcall"}, nil), api.CodeTokenInvalid, "alg"},
		"aud missing":       {own(nil, m{"aud": nil}), api.CodeApplicationUnknown, ""},
		"aud another":       {own(nil, m{"aud": otherApp}), api.CodeTokenInvalid, "signature"},
		"epoch missing":     {own(nil, m{"epoch": nil}), api.CodeTokenInvalid, "epoch must be a number"},
		"epoch string":      {own(nil, m{"epoch": "0"}), api.CodeTokenInvalid, "epoch must be a number"},
		"epoch negative":    {own(nil, m{"epoch": -1}), api.CodeTokenInvalid, "epoch must be a number"},
		"epoch fraction":    {own(nil, m{"epoch": 0.5}), api.CodeTokenInvalid, "epoch must be a number"},
		"epoch never had":   {own(nil, m{"epoch": 1}), api.CodeTokenInvalid, "epoch is one that the application never had"},
		"iat far ahead":     {own(nil, m{"iat": noon.Unix() + 3000}), "", ""}, // judged by its epoch, not by a clock
		"iat missing":       {own(nil, m{"iat": nil}), api.CodeTokenInvalid, "iat is required"},
		"expired":           {own(nil, m{"exp": noon.Unix()}), api.CodeTokenExpired, ""},
		"expired and wrong": {own(nil, m{"exp": noon.Unix(), "epoch": nil}), api.CodeTokenInvalid, "epoch"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.Verify(t.Context(), Credential{Token: tc.token})
			want(t, err, tc.code, tc.text)
		})
	}
	_, err := w.Verify(t.Context(), Credential{Token: own(nil, m{"aud": otherApp}), Application: appText})
	want(t, err, api.CodeTokenInvalid, "another application")
	_, err = w.Verify(t.Context(), Credential{Token: own(nil, nil), Application: otherApp})
	want(t, err, api.CodeTokenInvalid, "")
}

// A token may come from a node that heard of a revocation before this one did.
func TestTokenOfALaterEpoch(t *testing.T) {
	w := newWorld(t)
	there, err := New(t.Context(), Config{Store: w.db.Config, Now: w.clock.now})
	want(t, err, "", "")
	app, _, err := there.Revoke(t.Context(), appID, Admin, "")
	want(t, err, "", "")
	reply, err := there.IssueToken(app, api.TokenInput{ExpiresIn: 60})
	want(t, err, "", "")
	w.db.set(func(f *flaky) { f.down = errDown })
	_, err = w.Verify(t.Context(), Credential{Token: reply.Token})
	want(t, err, "", "") // G9
	w.db.set(func(f *flaky) { f.down = nil })
	grant, err := w.Verify(t.Context(), Credential{Token: reply.Token})
	want(t, err, "", "")
	if grant.Epoch != 1 || grant.Application.Epoch != 1 {
		t.Errorf("granted epoch %d of %d", grant.Epoch, grant.Application.Epoch)
	}
}

func TestWhichApplication(t *testing.T) {
	w := newWorld(t)
	w.patch(otherID, ApplicationInput{PublishableKey: new("rca_other00000000000"), Tokens: &TokensInput{HS256Secret: hsSecret}})
	anyAud := sign(t, nil, m{"aud": "https://example.com"})
	for name, tc := range map[string]struct {
		c    Credential
		want api.ApplicationID
		code api.Code
	}{
		"nothing":                            {Credential{}, appID, api.CodeTokenInvalid},
		"only an application":                {Credential{Application: appText}, appID, api.CodeTokenInvalid},
		"given by id":                        {Credential{Token: anyAud, Application: appText}, appID, ""},
		"given by number":                    {Credential{Token: anyAud, Application: appNumber}, appID, ""},
		"aud of another of the organization": {Credential{Token: sign(t, nil, nil), Application: otherApp}, otherID, api.CodeTokenInvalid},
		"aud of several, this one too":       {Credential{Token: sign(t, nil, m{"aud": []string{appText, otherApp}}), Application: otherApp}, otherID, ""},
		"aud of a stranger says nothing":     {Credential{Token: sign(t, nil, m{"aud": strangeApp}), Application: appText}, appID, ""},
		"given, aud of a wrong type":         {Credential{Token: sign(t, nil, m{"aud": 7}), Application: appText}, appID, ""},
		"given unknown":                      {Credential{Token: sign(t, nil, nil), Application: "999"}, appID, api.CodeApplicationUnknown},
		"given no id":                        {Credential{Token: sign(t, nil, nil), Application: "x"}, appID, api.CodeApplicationUnknown},
		"given unknown, key good":            {Credential{PublishableKey: pubKey, Application: "999"}, appID, api.CodeApplicationUnknown},
		"key":                                {Credential{PublishableKey: pubKey}, appID, ""},
		"key, application given":             {Credential{PublishableKey: pubKey, Application: appNumber}, appID, ""},
		"key of another application":         {Credential{PublishableKey: pubKey, Application: otherApp}, appID, api.CodePublishableKeyInvalid},
		"key unknown":                        {Credential{PublishableKey: "rca_unknown000000000"}, appID, api.CodePublishableKeyInvalid},
		"key malformed":                      {Credential{PublishableKey: "rca_"}, appID, api.CodePublishableKeyInvalid},
		"key in capitals":                    {Credential{PublishableKey: strings.ToUpper(pubKey)}, appID, api.CodePublishableKeyInvalid},
		"key very long":                      {Credential{PublishableKey: strings.Repeat("x", 1<<16)}, appID, api.CodePublishableKeyInvalid},
		"token, key names the application":   {Credential{Token: anyAud, PublishableKey: "rca_other00000000000"}, otherID, ""},
		"token, key of another application":  {Credential{Token: sign(t, nil, nil), PublishableKey: "rca_other00000000000"}, appID, api.CodePublishableKeyInvalid},
		"token, key unknown":                 {Credential{Token: sign(t, nil, nil), PublishableKey: "rca_unknown000000000"}, appID, api.CodePublishableKeyInvalid},
		"token bad, key good":                {Credential{Token: "x", PublishableKey: pubKey}, appID, api.CodeTokenInvalid},
		"aud of another organization's":      {Credential{Token: sign(t, nil, m{"aud": strangeApp})}, appID, api.CodeTokenInvalid},
		"aud names two: the first is judged": {Credential{Token: sign(t, nil, m{"aud": []string{strangeApp, appText}})}, appID, api.CodeTokenInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			grant, err := w.Verify(t.Context(), tc.c)
			want(t, err, tc.code, "")
			if err == nil && (grant.Application.ID != tc.want || grant.Authorized != (tc.c.Token != "")) {
				t.Errorf("granted %s, authorized %v", grant.Application.ID, grant.Authorized)
			}
		})
	}
}

func TestIssuerAndAudience(t *testing.T) {
	w := newWorld(t)
	w.patch(appID, ApplicationInput{Tokens: &TokensInput{HS256Secret: hsSecret, Issuer: "https://id", Audience: "https://api"}})
	for name, tc := range map[string]struct {
		claims m
		text   string
	}{
		"both":                 {m{"iss": "https://id", "aud": "https://api"}, ""},
		"among others":         {m{"iss": "https://id", "aud": []string{appText, "https://api"}}, ""},
		"iss missing":          {m{"aud": "https://api"}, "iss"},
		"iss another":          {m{"iss": "https://id/", "aud": "https://api"}, "iss"},
		"iss list":             {m{"iss": []string{"https://id"}, "aud": "https://api"}, "iss"},
		"aud the application":  {m{"iss": "https://id"}, "aud"},
		"aud missing":          {m{"iss": "https://id", "aud": nil}, "aud"},
		"aud of a wrong type":  {m{"iss": "https://id", "aud": 5}, "aud"},
		"aud in another case":  {m{"iss": "https://id", "aud": "https://API"}, "aud"},
		"aud empty, iss right": {m{"iss": "https://id", "aud": []string{}}, "aud"},
	} {
		t.Run(name, func(t *testing.T) {
			code := api.CodeTokenInvalid
			if tc.text == "" {
				code = ""
			}
			_, err := w.Verify(t.Context(), Credential{Token: sign(t, nil, tc.claims), Application: appText})
			want(t, err, code, tc.text)
		})
	}
	_, err := w.Verify(t.Context(), Credential{Token: w.issue(appID, api.TokenInput{})})
	want(t, err, "", "") // tokens that Rollcall issues are always accepted
}

// Only a good credential learns the application's state.
func TestStateIsToldLast(t *testing.T) {
	w := newWorld(t)
	own := w.issue(appID, api.TokenInput{})
	good := map[string]Credential{
		"foreign": {Token: sign(t, nil, nil)}, "own": {Token: own}, "key": {PublishableKey: pubKey},
	}
	bad := map[string]Credential{
		"signature": {Token: signWith(t, jwt.SigningMethodHS256, []byte(strings.Repeat("x", 32)), nil, nil)},
		"expired":   {Token: sign(t, nil, m{"exp": 1})},
		"claim":     {Token: sign(t, nil, m{"sub": 1})},
		"key":       {PublishableKey: "rca_unknown000000000", Application: appText},
		"other key": {PublishableKey: "rca_ffffffffffffffff", Application: appText},
		"none":      {Application: appText},
	}
	before := map[string]string{}
	for name, c := range bad {
		_, err := w.Verify(t.Context(), c)
		before[name] = err.Error()
	}
	paused := api.ApplicationPaused
	w.patch(appID, ApplicationInput{State: &paused})
	check := func(code api.Code) {
		t.Helper()
		for name, c := range good {
			_, err := w.Verify(t.Context(), c)
			if api.CodeOf(err) != code {
				t.Errorf("%s: got %v, want %s", name, err, code)
			}
		}
		for name, c := range bad {
			if _, err := w.Verify(t.Context(), c); err == nil || err.Error() != before[name] {
				t.Errorf("%s: got %v, want %s as before", name, err, before[name])
			}
		}
	}
	check(api.CodeApplicationPaused)
	if _, err := w.ArchiveApplication(t.Context(), appID, Admin); err != nil {
		t.Fatal(err)
	}
	check(api.CodeApplicationArchived)
}

func TestIssueTokenRefuses(t *testing.T) {
	w := newWorld(t)
	app := w.app(appID)
	long := strings.Repeat("x", 257)
	for name, tc := range map[string]struct {
		in   api.TokenInput
		text string
	}{
		"expiresIn missing":    {api.TokenInput{}, "expiresIn must be a whole number of seconds from 1 to 2592000"},
		"expiresIn negative":   {api.TokenInput{ExpiresIn: -1}, "expiresIn must be"},
		"expiresIn too long":   {api.TokenInput{ExpiresIn: 2592001}, "expiresIn must be"},
		"expiresIn overflows":  {api.TokenInput{ExpiresIn: math.MaxInt}, "expiresIn must be"},
		"login too long":       {api.TokenInput{ExpiresIn: 1, Login: long}, "login must be"},
		"login not UTF-8":      {api.TokenInput{ExpiresIn: 1, Login: "\xff"}, "login must be"},
		"license too long":     {api.TokenInput{ExpiresIn: 1, License: long}, "license must be"},
		"name too long":        {api.TokenInput{ExpiresIn: 1, Name: long}, "name must be"},
		"clientId too short":   {api.TokenInput{ExpiresIn: 1, ClientID: "abc"}, "clientId must be 4 to 64 printable"},
		"clientId too long":    {api.TokenInput{ExpiresIn: 1, ClientID: long[:65]}, "clientId must be"},
		"clientId with a NUL":  {api.TokenInput{ExpiresIn: 1, ClientID: "abc\x00"}, "clientId must be"},
		"clientId with bidi":   {api.TokenInput{ExpiresIn: 1, ClientID: "abc\u202e"}, "clientId must be"},
		"clientId not UTF-8":   {api.TokenInput{ExpiresIn: 1, ClientID: "abc\xff"}, "clientId must be"},
		"clientId three runes": {api.TokenInput{ExpiresIn: 1, ClientID: "日本語"}, "clientId must be"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.IssueToken(app, tc.in)
			want(t, err, api.CodeValidation, tc.text)
		})
	}
	for _, seconds := range []int{1, 2592000} {
		_, err := w.IssueToken(app, api.TokenInput{ExpiresIn: seconds, ClientID: "日本語 x"})
		want(t, err, "", "")
	}
	_, err := w.IssueToken(Application{}, api.TokenInput{ExpiresIn: 1})
	want(t, err, api.CodeApplicationNotFound, "")
	paused := api.ApplicationPaused
	w.patch(appID, ApplicationInput{State: &paused})
	_, err = w.IssueToken(app, api.TokenInput{ExpiresIn: 1})
	want(t, err, api.CodeConflict, "paused")
	if _, err := w.ArchiveApplication(t.Context(), appID, Admin); err != nil {
		t.Fatal(err)
	}
	_, err = w.IssueToken(app, api.TokenInput{ExpiresIn: 1})
	want(t, err, api.CodeConflict, "archived")
}

func TestLongestIssuedTokenIsAccepted(t *testing.T) {
	w := newWorld(t)
	worst := strings.Repeat("\x01", 256) // six bytes each in JSON
	token := w.issue(appID, api.TokenInput{Login: worst, License: worst, Name: worst, ClientID: strings.Repeat("\U0001F600", 64)})
	_, err := w.Verify(t.Context(), Credential{Token: token})
	want(t, err, "", "")
}

func TestSigningKeysAreApart(t *testing.T) {
	w := newWorld(t)
	if string(w.signingKey(appID)) == string(w.signingKey(otherID)) || len(w.signingKey(appID)) != 32 {
		t.Error("two applications share a key")
	}
	there, err := New(t.Context(), Config{Store: w.db})
	want(t, err, "", "")
	if string(there.signingKey(appID)) != string(w.signingKey(appID)) {
		t.Error("two nodes differ")
	}
}

func TestDenials(t *testing.T) {
	w := newWorld(t)
	there, err := New(t.Context(), Config{Store: w.db, Now: w.clock.now})
	want(t, err, "", "")
	denied, twin, other := sign(t, nil, m{"jti": "one"}), sign(t, nil, m{"jti": "two"}), sign(t, nil, nil)
	deny := func(d *Directory, token string) {
		grant, err := d.Verify(t.Context(), Credential{Token: token})
		want(t, err, "", "")
		d.Deny([]store.Denial{{Application: appID, TokenID: grant.TokenID, ExpiresAt: grant.TokenExpiresAt}})
	}
	deny(w.Directory, denied)
	deny(w.Directory, other)
	for _, token := range []string{denied, other} {
		_, err := w.Verify(t.Context(), Credential{Token: token})
		want(t, err, api.CodeTokenRevoked, "")
	}
	_, err = w.Verify(t.Context(), Credential{Token: twin})
	want(t, err, "", "")
	_, err = there.Verify(t.Context(), Credential{Token: denied})
	want(t, err, "", "") // Deny is local; the record's end carries it to the others

	// The purge keeps a denial for an hour longer than its token lives.
	w.clock.set(noon.Add(2 * time.Hour))
	w.purge(t.Context())
	if len(w.mem.denials) != 2 {
		t.Error("purged within the hour")
	}
	w.clock.set(noon.Add(2*time.Hour + time.Second))
	w.purge(t.Context())
	if len(w.mem.denials) != 0 {
		t.Error("not purged")
	}
	_, err = w.Verify(t.Context(), Credential{Token: denied})
	want(t, err, api.CodeTokenExpired, "")
}
