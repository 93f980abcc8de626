package tenant

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// Key is an authenticated API key: a snapshot. The zero Key may do and see nothing.
type Key struct {
	PublicID     string
	Organization api.OrganizationID
	row          *store.Key // never written to
	signIn       signIn     // by which it came; zero = it was presented itself
}

// parseKey takes the plaintext of a key apart: rck_<public id>_<secret> (page 2, "API keys").
func parseKey(plaintext string) (publicID, secret string, ok bool) {
	m := keyForm.FindStringSubmatch(plaintext)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// Authenticate finds the key of an Authorization header's value ("Bearer rck_…", the scheme in either case) and records the use.
// The errors are api_key_invalid, then api_key_revoked, then api_key_expired: a key that is both revoked and expired is revoked.
// Which keys exist is not told: the last two come only with the right secret, and an unknown key takes as long as a wrong secret.
func (d *Directory) Authenticate(authorization string, from netip.Addr) (Key, error) {
	scheme, plaintext, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return Key{}, api.Errorf(api.CodeKeyInvalid, "the request needs an API key: Authorization: Bearer rck_…")
	}
	publicID, secret, ok := parseKey(strings.Trim(plaintext, " \t"))
	if !ok {
		return Key{}, errKeyInvalid()
	}
	hash := sha256.Sum256([]byte(secret))
	row := d.key(publicID)
	known := row
	if known == nil {
		known = &store.Key{}
	}
	if subtle.ConstantTimeCompare(hash[:], known.SecretHash[:]) != 1 || row == nil {
		return Key{}, errKeyInvalid()
	}
	if err := d.usable(row); err != nil {
		return Key{}, err
	}
	d.noteUse(publicID, from)
	return Key{PublicID: publicID, Organization: row.Organization, row: row}, nil
}

// Recheck returns the key as it is now, or the error that Authenticate, or SignedIn, would give now. For streams (G7).
func (d *Directory) Recheck(k Key) (Key, error) {
	row := d.key(k.PublicID)
	if row == nil || k.row == nil || row.SecretHash != k.row.SecretHash {
		return Key{}, errKeyInvalid() // the secret that was presented is not the key's any more
	}
	if err := d.usable(row); err != nil {
		return Key{}, err
	}
	if err := d.stillSignedIn(k.signIn); err != nil {
		return Key{}, err
	}
	return Key{PublicID: k.PublicID, Organization: row.Organization, row: row, signIn: k.signIn}, nil
}

func (d *Directory) key(publicID string) *store.Key {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mem.keys[publicID]
}

func errKeyInvalid() error { return api.Errorf(api.CodeKeyInvalid, "the API key is not valid") }

func (d *Directory) usable(row *store.Key) error {
	switch keyState(row, d.Now()) {
	case api.KeyRevoked:
		return api.Errorf(api.CodeKeyRevoked, "the API key was revoked")
	case api.KeyExpired:
		return api.Errorf(api.CodeKeyExpired, "the API key expired at %s", row.ExpiresAt.Timestamp())
	default:
		return nil
	}
}

// keyState judges a key: revoked wins over expired, for it is final; a key is expired from its very instant on.
func keyState(row *store.Key, now api.Millis) api.KeyState {
	switch {
	case row.RevokedAt != 0:
		return api.KeyRevoked
	case row.ExpiresAt != 0 && now >= row.ExpiresAt:
		return api.KeyExpired
	default:
		return api.KeyActive
	}
}

// Require returns insufficient_scope, naming the scope, unless the key has it.
func (k Key) Require(scope api.Scope) error {
	if k.row == nil || !slices.Contains(k.row.Scopes, scope) {
		return api.Errorf(api.CodeInsufficientScope, "the API key lacks the scope %s", scope)
	}
	return nil
}

// sees tells whether the key's restriction lets it see the application; the organization is another question.
func (k Key) sees(id api.ApplicationID) bool {
	return k.row != nil && (k.row.AllApplications || slices.Contains(k.row.Applications, id))
}

func (k Key) restricted() bool { return k.row == nil || !k.row.AllApplications }

// Visible resolves an application for a key: application_forbidden when the key is restricted and ref is not on its list,
// existing or not; application_not_found when unknown or of another organization. Archived applications stay visible. ref is a
// UUID, in either case, or a decimal number.
func (d *Directory) Visible(k Key, ref string) (Application, error) {
	d.mu.RLock()
	app, ok := d.mem.resolve(ref)
	d.mu.RUnlock()
	ok = ok && app.Organization == k.Organization && k.sees(app.ID)
	switch {
	case ok:
		return app, nil
	case k.restricted():
		return Application{}, api.Errorf(api.CodeApplicationForbidden, "the API key is restricted to other applications")
	default:
		return Application{}, errNoApplication()
	}
}

func errNoApplication() *api.Error {
	return api.Errorf(api.CodeApplicationNotFound, "there is no such application")
}

// Applications returns the applications that the key may see, archived ones included, by number.
func (d *Directory) Applications(k Key) []Application {
	return slices.DeleteFunc(d.ApplicationsOf(k.Organization), func(app Application) bool { return !k.sees(app.ID) })
}

// ApplicationsOf returns all applications of an organization, archived ones included, by number.
func (d *Directory) ApplicationsOf(org api.OrganizationID) []Application {
	d.mu.RLock()
	defer d.mu.RUnlock()
	apps := make([]Application, 0, len(d.mem.byOrganization[org]))
	for id := range d.mem.byOrganization[org] {
		apps = append(apps, d.mem.application(id))
	}
	slices.SortFunc(apps, func(a, b Application) int {
		return cmp.Or(cmp.Compare(len(a.Number), len(b.Number)), cmp.Compare(a.Number, b.Number))
	})
	return apps
}

// Keys returns an organization's keys, oldest first. The last use is the latest of what this node saw and what it read with the
// key.
func (d *Directory) Keys(org api.OrganizationID) []store.Key {
	keys := []store.Key{}
	d.mu.RLock()
	for _, row := range d.mem.keys {
		if row.Organization == org {
			keys = append(keys, cloneKey(row))
		}
	}
	d.mu.RUnlock()
	for i := range keys {
		d.uses.overlay(&keys[i])
	}
	slices.SortFunc(keys, func(a, b store.Key) int {
		return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.PublicID, b.PublicID))
	})
	return keys
}

func cloneKey(row *store.Key) store.Key {
	k := *row
	k.Scopes, k.Applications = slices.Clone(k.Scopes), slices.Clone(k.Applications)
	return k
}

// KeyAPI returns a key for the wire.
func KeyAPI(k store.Key, now api.Millis) api.APIKey {
	out := api.APIKey{
		PublicID: k.PublicID, LastFour: k.LastFour, Name: k.Name, OrganizationID: k.Organization,
		Scopes: append([]api.Scope{}, k.Scopes...), State: keyState(&k, now),
		ExpiresAt: k.ExpiresAt.Timestamp(), RevokedAt: k.RevokedAt.Timestamp(),
		LastUsedAt: k.LastUsedAt.Timestamp(), LastUsedIP: k.LastUsedIP, CreatedAt: api.Timestamp(k.CreatedAt),
	}
	if !k.AllApplications {
		out.Applications = append([]api.ApplicationID{}, k.Applications...)
	}
	return out
}

// uses collects the last uses of keys, which are written lazily: a request must not wait for SQL to say that it came.
type uses struct {
	mu      sync.Mutex
	latest  map[string]store.KeyUse // of every key that was used here
	unsaved map[string]bool         // keys of latest that are yet to be written
}

func newUses() *uses {
	return &uses{latest: map[string]store.KeyUse{}, unsaved: map[string]bool{}}
}

func (u *uses) note(use store.KeyUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.latest[use.PublicID] = use
	u.unsaved[use.PublicID] = true
}

func (u *uses) overlay(k *store.Key) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if use, ok := u.latest[k.PublicID]; ok && use.At > k.LastUsedAt {
		k.LastUsedAt, k.LastUsedIP = use.At, use.IP
	}
}

// saveUses writes what is unsaved; what could not be written waits for the next time.
func (d *Directory) saveUses(ctx context.Context) {
	u := d.uses
	u.mu.Lock()
	batch := make([]store.KeyUse, 0, len(u.unsaved))
	for id := range u.unsaved {
		batch = append(batch, u.latest[id])
	}
	u.unsaved = map[string]bool{}
	u.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	slices.SortFunc(batch, func(a, b store.KeyUse) int { return cmp.Compare(a.PublicID, b.PublicID) })
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	if err := d.cfg.Store.TouchKeys(ctx, batch); err != nil {
		failed := map[string]bool{}
		for _, use := range batch {
			failed[use.PublicID] = true
		}
		u.mu.Lock()
		maps.Copy(u.unsaved, failed)
		u.mu.Unlock()
	}
}
