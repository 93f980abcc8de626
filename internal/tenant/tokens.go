package tenant

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/jwks"
	"github.com/rollcallhq/rollcall/internal/store"
)

// rollcallKid is the header `kid` of the tokens that Rollcall issues; an operator's own issuer cannot use it.
const rollcallKid = "rollcall"

const hs256 = "HS256"

// Credential is what a client presents to open or authorize a session. The token is judged when there is one; a publishable key
// beside it must be valid too.
type Credential struct {
	Token          string
	PublishableKey string
	Application    string // id or number; "" = the credential names it
	// Presented is when the client presented it, as KeysPending said; zero = now.
	Presented time.Time
}

// Grant is a verified credential.
type Grant struct {
	Application    Application
	Authorized     bool
	Rollcall       bool // issued by Rollcall: judged by Epoch; else by IssuedAt
	Epoch          uint64
	IssuedAt       api.Millis // in whole seconds, as revocation compares it; never later than when it was presented
	TokenExpiresAt api.Millis
	TokenID        string // "jti:…" or "sha256:…"; "" without a token
	Login          string
	License        string
	ClientID       string // cid: the client cannot claim another
	Name           string
}

// Verify judges a credential, from memory. The errors are *api.Error with token_invalid, token_expired, token_revoked,
// publishable_key_invalid, application_unknown, application_paused, application_archived; or unavailable, when the keys of the
// application's issuer are not here and cannot be fetched, as *KeysPending while it is worth waiting for them. With token_expired,
// token_revoked, application_paused and application_archived the Grant is that of the credential, which is authentic but good for
// nothing: for those who must know whose it was.
//
// Whose application it is: the given one, else the first that the token's `aud` names, else the publishable key's. Then the
// credential is judged, and only a good one learns whether the application is paused or archived: archived comes before
// token_revoked, so that an authentic token is told not to come back; paused comes last. There is no leeway on `exp`; a foreign
// `iat` or `nbf` may lie 5 s ahead.
func (d *Directory) Verify(ctx context.Context, c Credential) (Grant, error) {
	if c.Token == "" && c.PublishableKey == "" {
		return Grant{}, tokenInvalid("a session token or a publishable key is required")
	}
	var app Application
	var named bool
	if c.Application != "" {
		if app, named = d.find(c.Application); !named {
			return Grant{}, errUnknown()
		}
	}
	var keyApp *Application
	if c.PublishableKey != "" {
		found, err := d.findPublishable(c.PublishableKey)
		if err != nil {
			return Grant{}, err
		}
		keyApp = &found
	}
	var grant Grant
	if c.Token != "" {
		var err error
		if grant, err = d.verifyToken(ctx, c, app, named, keyApp); err != nil {
			return grant, err
		}
	} else {
		if !named {
			app = *keyApp
		}
		grant = Grant{Application: app, Epoch: app.Epoch}
	}
	if keyApp != nil && keyApp.ID != grant.Application.ID {
		return Grant{}, api.Errorf(api.CodePublishableKeyInvalid, "the publishable key is of another application")
	}
	switch grant.Application.State {
	case api.ApplicationArchived:
		return grant, errArchived()
	case api.ApplicationPaused:
		return grant, api.Errorf(api.CodeApplicationPaused, "the application is paused")
	default:
		return grant, nil
	}
}

func (d *Directory) find(ref string) (Application, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mem.resolve(ref)
}

func (d *Directory) findPublishable(key string) (Application, error) {
	if publishableForm.MatchString(key) {
		d.mu.RLock()
		defer d.mu.RUnlock()
		if app, ok := d.mem.byPublishableKey(key); ok {
			return app, nil
		}
	}
	return Application{}, api.Errorf(api.CodePublishableKeyInvalid, "the publishable key is not valid")
}

func tokenInvalid(format string, args ...any) *api.Error {
	return api.Errorf(api.CodeTokenInvalid, format, args...)
}

func errUnknown() error {
	return api.Errorf(api.CodeApplicationUnknown,
		"name a known application: by its id or number in `application`, or in the token's `aud`")
}

func errArchived() error {
	return api.Errorf(api.CodeApplicationArchived, "the application is archived")
}

// jwtParser takes no claim on trust: claims are judged by readClaims, which can say what is wrong with which. Strict decoding,
// because two spellings of one token would be two tokens to a denial. Which algorithm goes with which key verificationKey says.
var jwtParser = jwt.NewParser(jwt.WithValidMethods(append([]string{hs256}, jwks.Algorithms...)), jwt.WithStrictDecoding(),
	jwt.WithJSONNumber(), jwt.WithoutClaimsValidation())

// verifyToken judges a token. app is the application when named, else the token's `aud` names it, else keyApp is it, if any.
func (d *Directory) verifyToken(ctx context.Context, c Credential, app Application, named bool,
	keyApp *Application) (Grant, error) {
	token := c.Token
	if err := checkTokenForm(token); err != nil {
		return Grant{}, err
	}
	var rollcall bool
	claims := jwt.MapClaims{}
	parsed, err := jwtParser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) {
		if !named {
			var err error
			if app, err = d.audienceApplication(claims, keyApp); err != nil {
				return nil, err
			}
		}
		var key any
		var err error
		key, rollcall, err = d.verificationKey(t, app, c.Presented)
		return key, err
	})
	if err != nil {
		return Grant{}, tokenError(parsed, err)
	}
	read, err := readClaims(token, claims, d.Now(), rollcall)
	if err != nil {
		return Grant{}, err
	}
	if rollcall {
		err = audienceIs(claims, app.ID)
	} else if err = d.notForAnother(claims, app); err == nil {
		err = checkForeign(claims, app, d.Now())
	}
	if err != nil {
		return Grant{}, err
	}
	if d.Now() >= read.expiresAt {
		return read.grant(app, rollcall), api.Errorf(api.CodeTokenExpired, "the token has expired")
	}
	app, err = d.notRevoked(ctx, app, read, rollcall)
	if read.early { // so that the registry's door, too, takes it for what was there before a revocation that is on its way
		read.issuedAt = d.Now() / 1000 * 1000
	}
	return read.grant(app, rollcall), err
}

func (c *claims) grant(app Application, rollcall bool) Grant {
	return Grant{
		Application: app, Authorized: true, Rollcall: rollcall, Epoch: c.epoch, IssuedAt: c.issuedAt,
		TokenExpiresAt: c.expiresAt, TokenID: c.id, Login: c.login, License: c.license, ClientID: c.clientID, Name: c.name,
	}
}

// audienceApplication finds the application that a token whose signature is yet to be checked says it is for; where it names
// none, that of the publishable key beside it.
func (d *Directory) audienceApplication(claims jwt.MapClaims, keyApp *Application) (Application, error) {
	audience, err := readAudience(claims)
	if err != nil {
		return Application{}, err
	}
	for _, ref := range audience {
		if app, ok := d.find(ref); ok {
			return app, nil
		}
	}
	if keyApp != nil {
		return *keyApp, nil
	}
	return Application{}, errUnknown()
}

// notForAnother refuses a token that names another application of the organization and not this one: two applications may share a
// secret. Other organizations' applications are not looked at (G8), and what names none at all says nothing.
func (d *Directory) notForAnother(claims jwt.MapClaims, app Application) error {
	audience, err := readAudience(claims)
	if err != nil {
		return nil //nolint:nilerr // an aud that is no name was not asked for: the application was given
	}
	another := false
	for _, ref := range audience {
		found, ok := d.find(ref)
		if ok && found.ID == app.ID {
			return nil
		}
		another = another || ok && found.Organization == app.Organization
	}
	if another {
		return tokenInvalid("the token's aud names another application")
	}
	return nil
}

// verificationKey picks the key for a token by the header's alg and kid. It is the one place that says which key goes with which
// algorithm, so that a public key is never taken for an HMAC secret. No other header is read: keys come from where the application
// says, never from where the token does (`jku`, `x5u`, `jwk`).
func (d *Directory) verificationKey(t *jwt.Token, app Application, presented time.Time) (key any, rollcall bool, err error) {
	if _, critical := t.Header["crit"]; critical { // RFC 7515, section 4.1.11
		return nil, false, tokenInvalid("the token's header has a crit that is not understood")
	}
	kid, isText := t.Header["kid"].(string)
	if _, has := t.Header["kid"]; has && !isText {
		return nil, false, tokenInvalid("the token's header kid must be a string")
	}
	if kid != rollcallKid && app.JWKSURL != "" {
		key, err = d.issuerKeys(app, kid, t.Method.Alg(), presented)
		return key, false, err
	}
	switch {
	case t.Method.Alg() != hs256:
		return nil, false, tokenInvalid("the token's header alg must be HS256")
	case kid == rollcallKid:
		return d.signingKey(app.ID), true, nil
	case app.HS256Secret != "":
		return []byte(app.HS256Secret), false, nil
	default: // nothing that the client could learn from: to it, every key is the wrong one
		return nil, false, errSignature()
	}
}

// signingKey derives an application's key for the tokens that Rollcall issues from the server's secret.
func (d *Directory) signingKey(id api.ApplicationID) []byte {
	key, err := hkdf.Key(sha256.New, d.signing, nil, "rollcall session token "+id.String(), sha256.Size)
	if err != nil {
		panic(err) // only for lengths that are not ours
	}
	return key
}

func errSignature() error { return tokenInvalid("the token's signature does not verify") }

// tokenError says what is wrong with a token that the parser refused.
func tokenError(parsed *jwt.Token, err error) error {
	if pending, ok := errors.AsType[*KeysPending](err); ok {
		return pending
	}
	var told *api.Error
	switch {
	case errors.As(err, &told):
		return told
	case parsed != nil && parsed.Header != nil && parsed.Header["alg"] != hs256 && !isIssuers(parsed.Header["alg"]):
		return tokenInvalid("the token's header alg must be HS256, or one that the application's jwksUrl allows")
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return errSignature()
	default:
		return tokenInvalid("the token is not a JWT: three parts of base64url without padding, the first two JSON objects")
	}
}

// notRevoked judges an authentic, unexpired token by the application's revocation (page 3, "Revocation"), and returns the
// application as it was judged.
//
// A foreign token may be dated up to 5 s ahead of this node's clock, and its date alone would let it in after a revocation that it
// is older than (G4). So one that is presented before its date must be dated more than 5 s after the revocation; refused for that,
// it is denied, so that it does not come in when its date has passed. Issuers whose clocks are right pay nothing.
func (d *Directory) notRevoked(ctx context.Context, app Application, c claims, rollcall bool) (Application, error) {
	if rollcall && c.epoch > app.Epoch {
		// It was issued after a revocation that is yet to reach this node. While the database is away it is accepted: it was
		// signed, and nothing that is known here has revoked it (G9).
		err := d.catchUp(ctx)
		app, _ = d.Application(app.ID)
		if err == nil && c.epoch > app.Epoch {
			return app, tokenInvalid("the token's epoch is one that the application never had")
		}
	}
	if app.State == api.ApplicationArchived {
		return app, errArchived()
	}
	denied := d.Denied(app.ID, c.id)
	byEpoch := rollcall && c.epoch < app.Epoch
	byTime := !rollcall && app.RevokedAt != 0 && c.issuedAt <= app.RevokedAt // issuedAt is in whole seconds
	if c.early && !byTime && app.RevokedAt != 0 && c.issuedAt <= app.RevokedAt.Add(api.IssuedAtSkew) {
		byTime = true
		d.Deny([]store.Denial{{Application: app.ID, TokenID: c.id, ExpiresAt: c.expiresAt}})
	}
	if denied || byEpoch || byTime {
		return app, api.Errorf(api.CodeTokenRevoked, "the token was revoked: authenticate again")
	}
	return app, nil
}

// catchUp reads from the store what this node has not heard of.
func (d *Directory) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	err := d.refresh(ctx)
	d.wake()
	return err
}

// Deny refuses tokens here, at once; the caller makes them durable with the record's end.
func (d *Directory) Deny(denials []store.Denial) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mem.deny(denials)
}

// Denied tells whether a token, by the id of its Grant, is refused because an operator ended a session that had presented it.
func (d *Directory) Denied(app api.ApplicationID, tokenID string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	_, denied := d.mem.denials[denial{app, tokenID}]
	return denied
}

// IssueToken signs a session token for the application: HS256, `kid` rollcall, `aud` the application's id, its epoch, and a jti.
// Input is checked as the fields of hello are (clientId 4–64 printable characters, the other strings at most 256 bytes; "" =
// none), ExpiresIn is 1 s to 30 days. An application that is paused or archived gives conflict.
func (d *Directory) IssueToken(app Application, in api.TokenInput) (api.TokenReply, error) {
	app, ok := d.Application(app.ID) // as it is now: a token of an old epoch would be of no use
	if !ok {
		return api.TokenReply{}, errNoApplication()
	}
	if err := checkTokenInput(in); err != nil {
		return api.TokenReply{}, asAPI(err)
	}
	if app.State != api.ApplicationActive {
		return api.TokenReply{}, api.Errorf(api.CodeConflict, "the application is %s and takes no sessions", app.State)
	}
	now := d.Now()
	expires := now.Add(time.Duration(in.ExpiresIn) * time.Second)
	claims := jwt.MapClaims{
		"aud": app.ID.String(), "epoch": app.Epoch, "iat": numericDate(now), "exp": numericDate(expires),
		"jti": api.NewID[api.TokenReply]().String(),
	}
	for claim, value := range map[string]string{"sub": in.Login, "license": in.License, "cid": in.ClientID, "name": in.Name} {
		if value != "" {
			claims[claim] = value
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodHS256, claims)
	token.Header["kid"] = rollcallKid
	signed, err := token.SignedString(d.signingKey(app.ID))
	if err != nil {
		return api.TokenReply{}, err
	}
	return api.TokenReply{Token: signed, ExpiresAt: api.Timestamp(expires)}, nil
}

func checkTokenInput(in api.TokenInput) error {
	if in.ClientID != "" {
		if p := checkClientID("clientId", in.ClientID); p != nil {
			return p
		}
	}
	if in.ExpiresIn < MinTokenSeconds || in.ExpiresIn > MaxTokenSeconds {
		return problemf("expiresIn", "must be a whole number of seconds from %d to %d", MinTokenSeconds, MaxTokenSeconds)
	}
	return first(checkText("login", in.Login), checkText("license", in.License), checkText("name", in.Name))
}

// numericDate writes a time as RFC 7519 has it: seconds, with a fraction so that a short token lives exactly as long as asked.
func numericDate(t api.Millis) json.Number {
	return json.Number(strconv.FormatFloat(float64(t)/1000, 'f', -1, 64))
}
