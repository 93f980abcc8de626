package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
)

// What a set may be. A key outside of these bounds is ignored, a set outside of them is refused.
const (
	maxBytes   = 256 << 10
	maxKeys    = 100
	minRSABits = 2048 // RFC 7518, section 3.3; the library takes none of more than 4096
	maxTries   = 4    // keys that one token is tried against
)

// Algorithms are the values of a token's `alg` that a key of a set can verify. `none` and HMAC are not among them, so that no
// public key is ever taken for a secret.
var Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}

// key is a public key that signatures can be verified with.
type key struct {
	id     string   // `kid`; "" = none
	algs   []string // that it verifies
	public crypto.PublicKey
}

// set is what one answer of an issuer says, in its order.
type set []key

// find returns the keys that may have signed a token: those with its kid, or, for a token without one, all; only those that fit
// its algorithm, and no more than a token is tried against.
func (s set) find(kid, alg string) []crypto.PublicKey {
	var found []crypto.PublicKey
	for _, k := range s {
		if (kid == "" || k.id == kid) && slices.Contains(k.algs, alg) && len(found) < maxTries {
			found = append(found, k.public)
		}
	}
	return found
}

var (
	errMalformed = errors.New("the answer is not a JSON object with a list `keys`")
	errTooMany   = fmt.Errorf("the set has more than %d keys", maxKeys)
	errEmpty     = errors.New("the set has no key that can verify a token")
)

// parse reads a JWK Set (RFC 7517, section 5). Keys that cannot be used are ignored, as that section wants; a set of only such
// keys is an error.
func parse(text []byte) (set, error) {
	var in struct {
		Keys *[]json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(text, &in) != nil || in.Keys == nil {
		return nil, errMalformed
	}
	if len(*in.Keys) > maxKeys {
		return nil, errTooMany
	}
	var s set
	for _, raw := range *in.Keys {
		if k, ok := parseKey(raw); ok {
			s = append(s, k)
		}
	}
	if len(s) == 0 {
		return nil, errEmpty
	}
	return s, nil
}

// parseKey reads one key; false when it is not a public key for signatures: of another kty or use, symmetric, too short, or with
// its private part, which whoever reads the set could sign with.
func parseKey(raw json.RawMessage) (key, bool) {
	var in struct {
		public
		Kid     string          `json:"kid"`
		Use     string          `json:"use"`
		Alg     string          `json:"alg"`
		KeyOps  *[]string       `json:"key_ops"`
		Private json.RawMessage `json:"d"`
	}
	if json.Unmarshal(raw, &in) != nil || in.Private != nil || in.Use != "" && in.Use != "sig" ||
		in.KeyOps != nil && !slices.Contains(*in.KeyOps, "verify") {
		return key{}, false
	}
	// Only what makes the key goes to the library: a certificate beside it that Go cannot parse does not matter.
	text, err := json.Marshal(in.public)
	var parsed jose.JSONWebKey
	if err != nil || parsed.UnmarshalJSON(text) != nil {
		return key{}, false
	}
	k := key{id: in.Kid, algs: algorithms(parsed.Key), public: parsed.Key}
	if in.Alg == "Ed25519" { // RFC 9864 renames what tokens mostly call EdDSA
		in.Alg = "EdDSA"
	}
	if in.Alg != "" {
		k.algs = slices.DeleteFunc(k.algs, func(alg string) bool { return alg != in.Alg })
	}
	return k, len(k.algs) > 0
}

// public are the members of a JWK that are a public key (RFC 7518, section 6; RFC 8037, section 2).
type public struct {
	Kty string `json:"kty"`
	Crv string `json:"crv,omitempty"`
	X   string `json:"x,omitempty"`
	Y   string `json:"y,omitempty"`
	N   string `json:"n,omitempty"`
	E   string `json:"e,omitempty"`
}

// algorithms returns those that the key fits (RFC 7518, section 3.1); none for what is not a public key for signatures.
func algorithms(k any) []string {
	switch k := k.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() >= minRSABits {
			return slices.Clone(Algorithms[:6])
		}
	case *ecdsa.PublicKey:
		return map[int][]string{256: {"ES256"}, 384: {"ES384"}, 521: {"ES512"}}[k.Params().BitSize]
	case ed25519.PublicKey:
		return []string{"EdDSA"}
	}
	return nil
}
