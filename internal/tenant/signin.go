package tenant

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// A sign-in is a browser's use of an API key: a credential that stands for the key for at most api.MaxSignIn, without being it or
// holding it. It is signed, not stored, so that every node knows it, restarted or not; signing out is what is stored, as a denial
// until it would have ended by itself. The signature covers the hash of the key's secret: another secret under the same public id
// ends its sign-ins.

// signIn is what a Key that came by one knows of it; the zero value is a key that was presented itself.
type signIn struct {
	id        [16]byte
	expiresAt api.Millis
}

const (
	publicIDLength = 16 // keyForm
	signInLength   = 16 + 8 + publicIDLength + sha256.Size
)

// SignedInUntil returns when the sign-in ends by which the key came; ok is false for a key that was presented itself.
func (k Key) SignedInUntil() (at api.Millis, ok bool) {
	return k.signIn.expiresAt, k.signIn != signIn{}
}

// SignIn returns a credential that stands for the key, and the key as it comes by it. It is never valid for longer than the key.
func (d *Directory) SignIn(k Key) (string, Key) {
	in := signIn{expiresAt: d.Now().Add(api.MaxSignIn)}
	if k.row.ExpiresAt != 0 {
		in.expiresAt = min(in.expiresAt, k.row.ExpiresAt)
	}
	copy(in.id[:], randomBytes(len(in.id)))
	k.signIn = in
	b := append(make([]byte, 0, signInLength), in.id[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(in.expiresAt))
	b = append(b, k.PublicID...)
	return base64.RawURLEncoding.EncodeToString(append(b, d.signInMAC(b, k.row)...)), k
}

// SignedIn returns the key for which a credential of SignIn stands, and records the use. The errors are api_key_invalid when it is
// none, was signed out or has ended; else those of Authenticate.
func (d *Directory) SignedIn(credential string, from netip.Addr) (Key, error) {
	in, row := d.parseSignIn(credential)
	if row == nil {
		return Key{}, errNotSignedIn()
	}
	k, err := d.Recheck(Key{PublicID: row.PublicID, row: row, signIn: in})
	if err == nil {
		d.noteUse(k.PublicID, from)
	}
	return k, err
}

// SignOut makes a credential of SignIn worthless: here at once, on every other node when it next looks at the configuration. It returns
// the key that it stood for; the zero Key when it was worthless already. unavailable when the database does not answer: then it is
// worthless on this node alone, until that is asked for again.
func (d *Directory) SignOut(ctx context.Context, credential string) (Key, error) {
	in, row := d.parseSignIn(credential)
	if row == nil || d.Now() >= in.expiresAt {
		return Key{}, nil
	}
	var k Key
	if !d.signedOut(in) {
		k = Key{PublicID: row.PublicID, Organization: row.Organization, row: row}
	}
	denials := []store.Denial{{TokenID: in.denial(), ExpiresAt: in.expiresAt}}
	d.Deny(denials)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	if err := d.cfg.Store.Deny(ctx, denials); err != nil {
		return k, unavailable("signed out on this node alone", err)
	}
	return k, nil
}

// parseSignIn returns the key's row of an authentic credential, which may have ended; nil for everything else.
func (d *Directory) parseSignIn(credential string) (signIn, *store.Key) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(credential)
	if err != nil || len(b) != signInLength {
		return signIn{}, nil
	}
	signed, mac := b[:signInLength-sha256.Size], b[signInLength-sha256.Size:]
	row := d.key(string(signed[16+8:]))
	known := row
	if known == nil {
		known = &store.Key{} // which keys exist is not told, by the time that it takes either
	}
	if !hmac.Equal(mac, d.signInMAC(signed, known)) || row == nil {
		return signIn{}, nil
	}
	in := signIn{expiresAt: api.Millis(binary.BigEndian.Uint64(signed[16:]))}
	copy(in.id[:], signed)
	return in, row
}

func (d *Directory) signInMAC(signed []byte, row *store.Key) []byte {
	key, err := hkdf.Key(sha256.New, d.signing, nil, "rollcall sign-in", sha256.Size)
	if err != nil {
		panic(err) // only for lengths that are not ours
	}
	mac := hmac.New(sha256.New, key)
	mac.Write(signed)
	mac.Write(row.SecretHash[:])
	return mac.Sum(nil)
}

// stillSignedIn returns api_key_invalid when a key came by a sign-in that is over.
func (d *Directory) stillSignedIn(in signIn) error {
	if in != (signIn{}) && (d.Now() >= in.expiresAt || d.signedOut(in)) {
		return errNotSignedIn()
	}
	return nil
}

func (d *Directory) signedOut(in signIn) bool { return d.Denied(api.ApplicationID{}, in.denial()) }

// denial is the token id under which a sign-in is denied; the application is the zero one, which has no session tokens.
func (in signIn) denial() string { return "sign-in:" + base64.RawURLEncoding.EncodeToString(in.id[:]) }

func errNotSignedIn() error {
	return api.Errorf(api.CodeKeyInvalid, "the sign-in has ended: sign in with an API key")
}

// SignInAPI returns a key and its organization for the wire, with when access by this sign-in, or else the key itself, ends.
func (d *Directory) SignInAPI(k Key) api.SignIn {
	shown := KeyAPI(*k.row, d.Now())
	out := api.SignIn{Key: api.SignInKey{PublicID: shown.PublicID, Name: shown.Name, LastFour: shown.LastFour, Scopes: shown.Scopes,
		Applications: api.AllOrSome{IDs: shown.Applications}, ExpiresAt: shown.ExpiresAt}, ExpiresAt: shown.ExpiresAt}
	if org, ok := d.Organization(k.Organization); ok {
		out.Organization = api.SignInOrganization{ID: org.ID, Name: org.Name}
	}
	if at, ok := k.SignedInUntil(); ok {
		out.ExpiresAt = at.Timestamp()
	}
	return out
}

// noteUse records a key's use, lazily.
func (d *Directory) noteUse(publicID string, from netip.Addr) {
	use := store.KeyUse{PublicID: publicID, At: d.Now()}
	if from.IsValid() {
		use.IP = from.Unmap().WithZone("").String()
	}
	d.uses.note(use)
}

// SignInAge returns for how long a key's sign-in is still good, for a cookie's Max-Age.
func (d *Directory) SignInAge(k Key) time.Duration {
	return time.Duration(k.signIn.expiresAt-d.Now()) * time.Millisecond
}
