package tenant

import (
	"errors"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/jwks"
)

// KeysPending is the error of a credential that cannot be judged before the keys of the application's issuer were fetched. To who
// cannot wait it is unavailable.
type KeysPending struct {
	Done  <-chan struct{} // closed when a fetch has ended: verify again
	Since time.Time       // to be given back as Credential.Presented
}

// Error implements error.
func (p *KeysPending) Error() string { return p.Unwrap().Error() }

// Unwrap returns what it is to clients.
func (*KeysPending) Unwrap() error { return errNoKeys() }

func errNoKeys() *api.Error {
	return api.Errorf(api.CodeUnavailable, "the keys of the token's issuer cannot be fetched now: try again")
}

// issuerKeys returns the keys at the application's jwksUrl that may have signed a token.
func (d *Directory) issuerKeys(app Application, kid, alg string, presented time.Time) (any, error) {
	if !isIssuers(alg) {
		return nil, tokenInvalid("the token's header alg must be one of RS256, ES256 or EdDSA, or of their families")
	}
	found, err := d.issuers.Find(jwks.Group(app.Organization), app.JWKSURL, kid, alg, presented)
	if pending, ok := errors.AsType[*jwks.Pending](err); ok {
		return nil, &KeysPending{Done: pending.Done, Since: pending.Since}
	}
	switch {
	case errors.Is(err, jwks.ErrUnknown):
		return nil, tokenInvalid("the token's issuer has no key of that kid and alg")
	case err != nil:
		return nil, errNoKeys()
	case len(found) == 1:
		return found[0], nil
	}
	var keys jwt.VerificationKeySet
	for _, key := range found {
		keys.Keys = append(keys.Keys, key)
	}
	return keys, nil
}

// isIssuers tells whether the header's alg is one of those that an issuer's keys verify.
func isIssuers(alg any) bool {
	name, _ := alg.(string)
	return slices.Contains(jwks.Algorithms, name)
}

// usesIssuer tells whether an application gets its keys at the address. An archived one does: who has an authentic token is told.
func (d *Directory) usesIssuer(address string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, app := range d.mem.applications {
		if app.JWKSURL == address {
			return true
		}
	}
	return false
}
