package tenant

import (
	"strings"
	"testing"

	"github.com/rollcallhq/rollcall/api"
)

// hasSecret tells whether a text has as much as ten characters of a secret of the tests.
func hasSecret(text string, more ...string) bool {
	for _, secret := range append([]string{keySecret, hsSecret}, more...) {
		for i := 0; i+10 <= len(secret); i++ {
			if strings.Contains(text, secret[i:i+10]) {
				return true
			}
		}
	}
	return false
}

// No error and no log line carries a secret: neither ours nor what a caller took for one.
func TestNothingTellsASecret(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	token := w.issue(appID, api.TokenInput{})
	_, signature, _ := strings.Cut(token[strings.IndexByte(token, '.')+1:], ".")
	foreign := sign(t, nil, m{"exp": 5})
	row, plaintext, err := w.CreateKey(ctx, orgID, KeyInput{Name: new("K")})
	want(t, err, "", "")
	secrets := []string{strings.TrimPrefix(plaintext, "rck_"+row.PublicID+"_"), string(w.signing), signature, foreign, token}
	check := func(what string, err error) {
		t.Helper()
		if err == nil {
			t.Errorf("%s is not refused", what)
		} else if hasSecret(err.Error(), secrets...) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := w.RevokeKey(ctx, row.PublicID); err != nil {
		t.Fatal(err)
	}
	for _, header := range []string{plaintext, "Bearer " + plaintext, "Bearer " + plaintext + "x", "Bearer " + plainKey[5:], "Bearer rck_" + plainKey} {
		_, err := w.Authenticate(header, somewhere)
		check(header, err)
	}
	for _, c := range []Credential{
		{Token: foreign}, {Token: token + "x"}, {Token: token, Application: otherApp}, {Token: hsSecret}, {Token: plainKey},
		{PublishableKey: plainKey}, {Application: hsSecret, Token: token}, {Token: sign(t, nil, m{"sub": 5, "cid": hsSecret})},
		{Token: sign(t, nil, m{"name": strings.Repeat(hsSecret, 10)})}, {Token: sign(t, m{"kid": 5, "crit": hsSecret}, nil)},
		{Token: sign(t, nil, m{"iat": hsSecret})}, {Token: sign(t, nil, m{"aud": hsSecret})},
	} {
		_, err := w.Verify(ctx, c)
		check("Verify", err)
	}
	for _, in := range []ApplicationInput{
		{Tokens: &TokensInput{HS256Secret: hsSecret[:31]}}, {Tokens: &TokensInput{HS256Secret: hsSecret, JWKSURL: "https://a"}},
		{Tokens: &TokensInput{JWKSURL: "https://user:" + hsSecret + "@a/%zz"}}, {PublishableKey: new(plainKey)},
		{Number: new(hsSecret)}, {AllowedOrigins: &[]string{hsSecret}}, {Name: new(strings.Repeat(hsSecret, 10))},
	} {
		_, err := w.PatchApplication(ctx, appID, in, Admin)
		check("PatchApplication", err)
	}
	// Whatever is wrong with a file, and wherever.
	for i := 0; i < len(exampleFile); i += 3 {
		for _, file := range []string{
			exampleFile[:i], exampleFile[i:], exampleFile[:i] + exampleFile[i+1:],
			exampleFile[:i] + "{" + exampleFile[i:], exampleFile[:i] + "\n" + exampleFile[i:], exampleFile[:i] + ": " + exampleFile[i:],
			exampleFile[:i] + "\t" + exampleFile[i:], exampleFile[:i] + `"` + exampleFile[i:], exampleFile[:i] + "&" + exampleFile[i:],
			exampleFile[:i] + "*" + exampleFile[i:], exampleFile[:i] + "!" + exampleFile[i:], exampleFile[:i] + "- " + exampleFile[i:],
		} {
			if _, err := readBootstrap([]byte(file)); err != nil && hasSecret(err.Error()) {
				t.Errorf("%v", err)
			}
		}
	}
	w.db.set(func(f *flaky) { f.down = errDown })
	_, _, err = w.Revoke(ctx, appID, Admin, "")
	check("Revoke", err)
	_, _, err = w.CreateKey(ctx, orgID, KeyInput{Name: new("K")})
	check("CreateKey", err)
	w.pollOnce(ctx)
	w.purge(ctx)
	if log := w.log.String(); !strings.Contains(log, "database does not answer") || hasSecret(log, secrets...) {
		t.Errorf("the log is %s", log)
	}
}
