package jwks

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

var (
	_, edKey, _   = ed25519.GenerateKey(rand.Reader)
	rsaKey        = must(rsa.GenerateKey(rand.Reader, 2048))
	rsaShort      = must(rsa.GenerateKey(rand.Reader, 2040))
	ec256, ec384  = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	ec521         = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	rsaAlgorithms = "RS256 RS384 RS512 PS256 PS384 PS512"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// jwk writes the public key of a private one, with members added or, when nil, taken out.
func jwk(private crypto.Signer, members map[string]any) string {
	return edited(private.Public(), members)
}

func edited(k any, members map[string]any) string {
	all := map[string]any{}
	if err := json.Unmarshal(must(jose.JSONWebKey{Key: k}.MarshalJSON()), &all); err != nil {
		panic(err)
	}
	maps.Copy(all, members)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return string(must(json.Marshal(all)))
}

type m = map[string]any

func TestParseKey(t *testing.T) {
	for name, tc := range map[string]struct{ jwk, algs string }{
		"RSA":                      {jwk(rsaKey, nil), rsaAlgorithms},
		"P-256":                    {jwk(ec256, nil), "ES256"},
		"P-384":                    {jwk(ec384, nil), "ES384"},
		"P-521":                    {jwk(ec521, nil), "ES512"},
		"Ed25519":                  {jwk(edKey, nil), "EdDSA"},
		"alg":                      {jwk(rsaKey, m{"alg": "RS256"}), "RS256"},
		"alg Ed25519":              {jwk(edKey, m{"alg": "Ed25519"}), "EdDSA"},
		"alg of another key":       {jwk(rsaKey, m{"alg": "ES256"}), ""},
		"alg of encryption":        {jwk(rsaKey, m{"alg": "RSA-OAEP"}), ""},
		"alg HS256":                {jwk(rsaKey, m{"alg": "HS256"}), ""},
		"alg none":                 {jwk(rsaKey, m{"alg": "none"}), ""},
		"alg of another type":      {jwk(rsaKey, m{"alg": 1}), ""},
		"use sig":                  {jwk(ec256, m{"use": "sig"}), "ES256"},
		"use enc":                  {jwk(ec256, m{"use": "enc"}), ""},
		"key_ops verify":           {jwk(ec256, m{"key_ops": []string{"sign", "verify"}}), "ES256"},
		"key_ops encrypt":          {jwk(ec256, m{"key_ops": []string{"encrypt"}}), ""},
		"key_ops empty":            {jwk(ec256, m{"key_ops": []string{}}), ""},
		"kid of another type":      {jwk(ec256, m{"kid": 7}), ""},
		"kty unknown":              {jwk(ec256, m{"kty": "XYZ"}), ""},
		"kty missing":              {jwk(ec256, m{"kty": nil}), ""},
		"kty in lower case":        {jwk(ec256, m{"kty": "ec"}), ""},
		"symmetric":                {edited([]byte(strings.Repeat("k", 32)), nil), ""},
		"private RSA":              {edited(rsaKey, nil), ""},
		"private EC":               {edited(ec256, nil), ""},
		"private Ed25519":          {edited(edKey, nil), ""},
		"RSA of 2040 bits":         {jwk(rsaShort, nil), ""},
		"RSA of 4096 bits":         {jwk(rsaKey, m{"n": strings.Repeat("_", 682) + "8"}), rsaAlgorithms},
		"RSA of 4104 bits":         {jwk(rsaKey, m{"n": strings.Repeat("_", 684)}), ""},
		"RSA without n":            {jwk(rsaKey, m{"n": nil}), ""},
		"RSA without e":            {jwk(rsaKey, m{"e": nil}), ""},
		"RSA with an e of 0":       {jwk(rsaKey, m{"e": "AA"}), ""},
		"RSA with an e of 1":       {jwk(rsaKey, m{"e": "AQ"}), ""},
		"RSA with a huge e":        {jwk(rsaKey, m{"e": strings.Repeat("_", 100)}), ""},
		"no base64url":             {jwk(rsaKey, m{"n": "!!!"}), ""},
		"EC without y":             {jwk(ec256, m{"y": nil}), ""},
		"EC off the curve":         {jwk(ec256, m{"x": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}), ""},
		"EC with a long x":         {jwk(ec256, m{"x": strings.Repeat("_", 1000)}), ""},
		"EC of an unknown curve":   {jwk(ec256, m{"crv": "secp256k1"}), ""},
		"P-256 called P-384":       {jwk(ec256, m{"crv": "P-384"}), ""},
		"X25519":                   {jwk(edKey, m{"crv": "X25519"}), ""},
		"Ed25519 cut":              {jwk(edKey, m{"x": "AAAA"}), ""},
		"certificates not parsed":  {jwk(rsaKey, m{"x5c": []string{"AAAA"}, "x5t": "?", "x5u": "http://127.0.0.1:1/"}), rsaAlgorithms},
		"a number":                 {`7`, ""},
		"null":                     {`null`, ""},
		"a list":                   {`[]`, ""},
		"nothing":                  {`{}`, ""},
		"members of another type":  {`{"kty":["RSA"],"n":{},"e":1}`, ""},
		"unknown members are fine": {jwk(edKey, m{"exp": 1, "foo": m{}}), "EdDSA"},
	} {
		t.Run(name, func(t *testing.T) {
			k, ok := parseKey(json.RawMessage(tc.jwk))
			if got := strings.Join(k.algs, " "); got != tc.algs || ok != (tc.algs != "") {
				t.Errorf("%s verifies %q, %v", tc.jwk, got, ok)
			}
		})
	}
}

func TestFindInSet(t *testing.T) {
	s, err := parse([]byte(fmt.Sprintf(`{"keys":[%s,%s,%s,%s,%s,%s,null,5,{"kty":"oct","k":"AA","kid":"r"}],"foo":1}`,
		jwk(rsaKey, m{"kid": "r", "alg": "RS256"}), jwk(ec256, m{"kid": "dup"}), jwk(ec256, m{"kid": "dup"}), jwk(ec384, m{"kid": "dup"}),
		jwk(edKey, nil), jwk(edKey, m{"kid": "enc", "use": "enc"}))))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		kid, alg string
		n        int
	}{
		{"r", "RS256", 1}, {"r", "RS512", 0}, {"r", "ES256", 0}, {"r", "HS256", 0}, {"r", "none", 0}, {"R", "RS256", 0},
		{"dup", "ES256", 2}, {"dup", "ES384", 1}, // each is tried, and none of another curve
		{"", "RS256", 1}, {"", "ES256", 2}, {"", "EdDSA", 1}, // a token without kid is tried against all that fit
		{"other", "EdDSA", 0}, {"enc", "EdDSA", 0},
	} {
		if got := s.find(tc.kid, tc.alg); len(got) != tc.n {
			t.Errorf("kid %q, alg %s: %d keys, want %d", tc.kid, tc.alg, len(got), tc.n)
		}
	}
	many := strings.TrimSuffix(strings.Repeat(jwk(edKey, m{"kid": "x"})+",", maxKeys), ",")
	if s, err = parse([]byte(`{"keys":[` + many + `]}`)); err != nil || len(s) != maxKeys {
		t.Fatal(len(s), err)
	}
	if got := s.find("x", "EdDSA"); len(got) != maxTries {
		t.Errorf("a token is tried against %d keys", len(got))
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"": errMalformed, "null": errMalformed, "[]": errMalformed, "{}": errMalformed, `{"keys":null}`: errMalformed,
		`{"keys":{}}`: errMalformed, `{"keys":[}`: errMalformed, `{"keys":[]} x`: errMalformed, `<html>`: errMalformed,
		`{"keys":[]}`: errEmpty, `{"keys":[{}]}`: errEmpty, `{"keys":[` + strings.Repeat("1,", maxKeys) + `1]}`: errTooMany,
		strings.Repeat("[", 100_000): errMalformed,
	} {
		if s, err := parse([]byte(text)); err != want || s != nil { //nolint:errorlint // it is to be this very one
			t.Errorf("%.40q gives %v, want %v", text, err, want)
		}
	}
}

// Whatever an issuer answers, what is kept of it is public keys for signatures, within the bounds.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"keys":[]}`))
	for _, k := range []string{jwk(rsaKey, nil), jwk(ec256, m{"kid": "a", "use": "sig"}), jwk(edKey, nil), edited(ec521, nil),
		`{"kty":"oct","k":"AAAA"}`, `{"kty":"AKP","alg":"ML-DSA-44","pub":"AAAA"}`} {
		f.Add([]byte(`{"keys":[` + k + `]}`))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if (err == nil) != (len(s) > 0) || len(s) > maxKeys {
			t.Fatalf("%d keys, %v", len(s), err)
		}
		for _, k := range s {
			switch public := k.public.(type) {
			case *rsa.PublicKey:
				if public.N.BitLen() < minRSABits || public.N.BitLen() > jose.MaxRSAModulusBits || public.E < 2 {
					t.Errorf("RSA key of %d bits", public.N.BitLen())
				}
			case *ecdsa.PublicKey, ed25519.PublicKey:
			default:
				t.Errorf("a key of type %T", k.public)
			}
		}
	})
}
