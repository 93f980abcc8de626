package api

import "encoding/json"

// SignInPath is where a browser exchanges an API key for a cookie, asks whose it is, and signs out.
const SignInPath = RoutePrefix + "/sign-in"

// SignInCookie is the name of the cookie. A request without Authorization that carries it is made with the key it stands for.
const SignInCookie = "rollcall_sign_in"

// SignInInput is the body of POST /sign-in.
type SignInInput struct {
	Key string `json:"key"`
}

// SignIn is its answer, and that of GET: who asks, and until when. ExpiresAt is left out for a key that was presented itself and
// never expires.
type SignIn struct {
	Key          SignInKey          `json:"key"`
	Organization SignInOrganization `json:"organization"`
	ExpiresAt    *Timestamp         `json:"expiresAt,omitempty"`
}

// SignInKey is the key of a SignIn.
type SignInKey struct {
	PublicID     string     `json:"publicId"`
	Name         string     `json:"name"`
	LastFour     string     `json:"lastFour"`
	Scopes       []Scope    `json:"scopes"`
	Applications AllOrSome  `json:"applications"`
	ExpiresAt    *Timestamp `json:"expiresAt,omitempty"`
}

// SignInOrganization is the organization of a SignIn's key.
type SignInOrganization struct {
	ID   OrganizationID `json:"id"`
	Name string         `json:"name"`
}

// AllOrSome is the word "all", or a list of applications: as in the bootstrap file. IDs nil = all.
type AllOrSome struct{ IDs []ApplicationID }

// MarshalJSON writes "all" or the list.
func (a AllOrSome) MarshalJSON() ([]byte, error) {
	if a.IDs == nil {
		return []byte(`"all"`), nil
	}
	return json.Marshal(a.IDs)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (a *AllOrSome) UnmarshalJSON(data []byte) error {
	if a.IDs = nil; string(data) == `"all"` {
		return nil
	}
	return json.Unmarshal(data, &a.IDs)
}
