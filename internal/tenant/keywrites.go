package tenant

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/store"
)

// KeyInput creates or patches an API key; nil fields keep what is there. At creation Name is required, Scopes nil = none, both
// AllApplications and Applications nil = all applications. Applications restricts the key to a list, which may be empty;
// AllApplications true lifts the restriction. An ExpiresAt in the past is accepted: such a key is expired.
type KeyInput struct {
	Name            *string
	Scopes          *[]api.Scope
	AllApplications *bool
	Applications    *[]api.ApplicationID
	ExpiresAt       *api.Millis // 0 = never
}

func (in KeyInput) check() error {
	if in.AllApplications != nil && *in.AllApplications && in.Applications != nil {
		return problemf("applications", "must not be a list when all applications are given")
	}
	return first(checkName("name", in.Name), checkScopes(in.Scopes), checkExpiry(in.ExpiresAt))
}

// apply changes row as the input says; the input has passed check.
func (in KeyInput) apply(row *store.Key) {
	if in.Name != nil {
		row.Name = *in.Name
	}
	if in.Scopes != nil {
		row.Scopes = normalScopes(*in.Scopes)
	}
	if in.AllApplications != nil {
		row.AllApplications = *in.AllApplications
	}
	if in.Applications != nil {
		row.AllApplications = false
		row.Applications = slices.Compact(slices.SortedFunc(slices.Values(*in.Applications), api.ApplicationID.Compare))
	}
	if row.AllApplications {
		row.Applications = nil
	}
	if in.ExpiresAt != nil {
		row.ExpiresAt = *in.ExpiresAt
	}
}

// checkApplications checks that a key's list names applications of its organization (G8).
func (in KeyInput) checkApplications(e *edit, org api.OrganizationID) error {
	if in.Applications == nil {
		return nil
	}
	for i, id := range *in.Applications {
		app, err := e.Application(id)
		if err != nil {
			return err
		}
		if app == nil || app.Organization != org {
			return problemf(fmt.Sprintf("applications[%d]", i), "must be the id of an application of the organization")
		}
	}
	return nil
}

// CreateKey creates a key and returns its plaintext, which is not kept. not_found when there is no such organization.
func (d *Directory) CreateKey(ctx context.Context, org api.OrganizationID, in KeyInput) (store.Key, string, error) {
	if in.Name == nil {
		in.Name = new(string) // check says what a name must be
	}
	if in.AllApplications == nil {
		in.AllApplications = new(in.Applications == nil)
	} else if !*in.AllApplications && in.Applications == nil {
		return store.Key{}, "", problemf("applications", "must be a list of ids, unless all applications are given").api()
	}
	if err := in.check(); err != nil {
		return store.Key{}, "", asAPI(err)
	}
	publicID, secret := randomString("abcdefghijklmnopqrstuvwxyz0123456789", 16), randomString(alphanumeric, 48)
	row := store.Key{
		PublicID: publicID, Organization: org, SecretHash: sha256.Sum256([]byte(secret)), LastFour: secret[len(secret)-4:],
	}
	err := d.write(ctx, func(e *edit) error {
		owner, err := e.Organization(org)
		if err != nil {
			return err
		}
		if owner == nil {
			return errNoOrganization()
		}
		if err := in.checkApplications(e, org); err != nil {
			return err
		}
		in.apply(&row)
		row.CreatedAt = e.Now()
		return e.putKey(nil, row)
	})
	if err != nil {
		return store.Key{}, "", asAPI(err)
	}
	return d.storedKey(row), "rck_" + publicID + "_" + secret, nil
}

// PatchKey changes a key. A revoked key gives conflict, an unknown one not_found.
func (d *Directory) PatchKey(ctx context.Context, publicID string, in KeyInput) (store.Key, error) {
	if err := in.check(); err != nil {
		return store.Key{}, asAPI(err)
	}
	return d.changeKey(ctx, publicID, func(e *edit, row *store.Key) error {
		if row.RevokedAt != 0 {
			return api.Errorf(api.CodeConflict, "the API key was revoked, which is final")
		}
		if in.AllApplications != nil && !*in.AllApplications && row.AllApplications && in.Applications == nil {
			return problemf("applications", "must be a list of ids, unless all applications are given")
		}
		if err := in.checkApplications(e, row.Organization); err != nil {
			return err
		}
		in.apply(row)
		return nil
	})
}

// RevokeKey revokes a key, which is final. Idempotent.
func (d *Directory) RevokeKey(ctx context.Context, publicID string) (store.Key, error) {
	return d.changeKey(ctx, publicID, func(e *edit, row *store.Key) error {
		if row.RevokedAt == 0 {
			row.RevokedAt = e.Now()
		}
		return nil
	})
}

func (d *Directory) changeKey(ctx context.Context, publicID string, change func(*edit, *store.Key) error) (store.Key, error) {
	var row store.Key
	err := d.write(ctx, func(e *edit) error {
		old, err := e.Key(publicID)
		if err != nil {
			return err
		}
		if old == nil {
			return api.Errorf(api.CodeNotFound, "there is no such API key")
		}
		row = cloneKey(old)
		if err := change(e, &row); err != nil {
			return err
		}
		return e.putKey(old, row)
	})
	if err != nil {
		return store.Key{}, asAPI(err)
	}
	return d.storedKey(row), nil
}

// storedKey returns a key that was just written, with its last use.
func (d *Directory) storedKey(row store.Key) store.Key {
	if now := d.key(row.PublicID); now != nil {
		row = cloneKey(now)
	}
	d.uses.overlay(&row)
	return row
}

// asAPI makes the errors of checks and of store ones that callers are told.
func asAPI(err error) error {
	var wrong *problem
	switch {
	case errors.As(err, &wrong):
		return wrong.api()
	case errors.Is(err, store.ErrConflict):
		return api.Errorf(api.CodeConflict, "the id is taken")
	default:
		return err
	}
}

const alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// randomString returns n characters of the alphabet, of at most 256, each equally likely.
func randomString(alphabet string, n int) string {
	limit := 256 - 256%len(alphabet) // bytes from here on would favour the alphabet's beginning
	out := make([]byte, 0, n)
	for len(out) < n {
		for _, b := range randomBytes(n) {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails (crypto/rand)
	return b
}
