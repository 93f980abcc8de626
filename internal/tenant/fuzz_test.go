package tenant

import (
	"net/netip"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// fuzzDirectory is one directory for all inputs of a fuzz target: none of them changes it.
var fuzzDirectory = sync.OnceValue(func() *Directory {
	d := &Directory{cfg: Config{Now: (&clock{t: noon}).now}, mem: newMemory(), uses: newUses(), signing: make([]byte, 32)}
	file, err := readBootstrap([]byte(exampleFile))
	if err != nil {
		panic(err)
	}
	org, app, key := file[0], file[0].applications[0], file[0].keys[0]
	orgRow := newOrganization(*org.in.ID, 1)
	org.in.apply(&orgRow)
	appRow := d.newApplication(*app.in.ID, orgRow.ID, 1)
	app.in.apply(&appRow, "")
	keyRow := store.Key{PublicID: key.publicID, Organization: orgRow.ID, SecretHash: key.hash}
	key.in.apply(&keyRow)
	d.mem.take(store.Changes{Version: 1, Organizations: []store.Organization{orgRow}, Applications: []store.Application{appRow}, Keys: []store.Key{keyRow}})
	return d
})

// Only the example's key is accepted, whatever surrounds it, and no refusal repeats what was sent.
func FuzzAuthorization(f *testing.F) {
	for _, header := range []string{"", "Bearer", "Bearer ", "Bearer " + plainKey, "bearer\t" + plainKey, "Basic dTpw", "Bearer rck_\xff"} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		k, err := fuzzDirectory().Authenticate(header, netip.Addr{})
		scheme, rest, _ := strings.Cut(header, " ")
		good := strings.EqualFold(scheme, "bearer") && strings.Trim(rest, " \t") == plainKey
		if good != (err == nil) || good != (k.PublicID == keyPublic) {
			t.Errorf("%q gives %v", header, err)
		}
		if err != nil && (api.CodeOf(err) != api.CodeKeyInvalid || hasSecret(err.Error())) {
			t.Errorf("%q gives %v", header, err)
		}
	})
}

// A token is refused with a code of page 3, or grants what fits the protocol's limits.
func FuzzVerify(f *testing.F) {
	f.Add("", "")
	f.Add("a.b.c", appNumber)
	f.Add("eyJhbGciOiJub25lIn0.e30.", appText)
	f.Add("eyJhbGciOiJIUzI1NiIsImtpZCI6InJvbGxjYWxsIn0.eyJhdWQiOiI1NTBlODQwMC1lMjliLTQxZDQtYTcxNi00NDY2NTU0NDAwMDAifQ.AAAA", "")
	f.Fuzz(func(t *testing.T, token, application string) {
		d := fuzzDirectory()
		_, err := d.Verify(t.Context(), Credential{Token: token, Application: application})
		switch api.CodeOf(err) {
		case api.CodeTokenInvalid, api.CodeApplicationUnknown:
		default:
			t.Errorf("%q for %q gives %v", token, application, err)
		}
	})
}

// The claims of an authentic token are bounded however they are written.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"exp":1780318800,"iat":1780315200,"sub":"john@example.com","cid":"client-001","jti":"x"}`))
	f.Add([]byte(`{"exp":1e999,"iat":-1,"aud":[null],"name":"\ud800"}`))
	f.Add([]byte(`{"exp":1780318800.5,"iat":1780315200,"sub":"a","sub":"b"}`))
	f.Add([]byte("{\"exp\":1,\"sub\":\"\xff\"}"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if len(payload) > 5000 {
			t.Skip("longer than a token may be")
		}
		grant, err := fuzzDirectory().Verify(t.Context(), Credential{Token: raw(t, `{"alg":"HS256"}`, string(payload)), Application: appText})
		if err != nil {
			if code := api.CodeOf(err); code != api.CodeTokenInvalid && code != api.CodeTokenExpired {
				t.Errorf("%q gives %v", payload, err)
			}
			return
		}
		for _, s := range []string{grant.Login, grant.License, grant.Name, grant.ClientID} {
			if len(s) > api.MaxString || !utf8.ValidString(s) {
				t.Errorf("%q grants %q", payload, s)
			}
		}
		if grant.TokenExpiresAt <= api.MillisOf(noon) || grant.TokenExpiresAt > maxMillis || grant.IssuedAt > api.MillisOf(noon)+5000 ||
			grant.TokenID == "" || grant.ClientID != "" && utf8.RuneCountInString(grant.ClientID) < api.MinClientID {
			t.Errorf("%q grants %+v", payload, grant)
		}
	})
}

// Any file is read or refused; what is read passes every check, and no refusal repeats a secret.
func FuzzBootstrap(f *testing.F) {
	f.Add([]byte(exampleFile))
	f.Add([]byte(moreFile))
	f.Add([]byte("organizations: &a [*a]"))
	f.Add([]byte("organizations:\n  - id: *b\n    name: &b {<<: *b}\n"))
	f.Add([]byte("organizations: [{id: 11111111-1111-4111-8111-111111111111, name: !!str 5}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		file, err := readBootstrap(text)
		if err != nil {
			if hasSecret(err.Error()) {
				t.Errorf("%v", err)
			}
			return
		}
		for _, org := range file {
			if org.in.ID == nil || org.in.check() != nil {
				t.Errorf("organization %+v", org.in)
			}
			for _, app := range org.applications {
				if app.in.ID == nil || app.in.check() != nil {
					t.Errorf("application %+v", app.in)
				}
			}
			for _, key := range org.keys {
				if !publicIDForm.MatchString(key.publicID) || key.in.check() != nil {
					t.Errorf("key %+v", key.in)
				}
			}
		}
	})
}
