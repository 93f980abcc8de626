package registry

import (
	"cmp"
	"errors"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// Row is what the registry keeps of one live session. A row is replaced, never changed in place.
type Row struct {
	Organization api.OrganizationID
	Application  api.ApplicationID
	Session      api.SessionID
	ServerID     api.ServerID // ends in Session
	CreatedAt    api.Millis
	IP           string
	ClientID     string // what is shown: the session id when the client gave none
	Login        string // "" = none
	License      string // "" = none
	Authorized   bool

	TokenExpiresAt api.Millis // 0 = no expiry
	LastActiveAt   api.Millis // 0 = CreatedAt; before it when a session is reported that was idle already

	// Credential is what the session was opened, upgraded or renewed with last; revocation judges it at the door.
	Credential Credential

	// FoundSince is since when searches find the row by its texts as they are, where that is later than CreatedAt and not known from
	// its updates; 0 = since CreatedAt. For Insert alone.
	FoundSince api.Millis

	// OwnerEpoch is how often other nodes have adopted the session. Of two nodes that claim one the higher has it.
	OwnerEpoch uint32
}

// Derived returns the row's derived status at now; a live session is expired, idle or active. A token is expired from the very
// millisecond of its expiry (RFC 7519, section 4.1.4), a session idle from idleAfter after its last activity.
func (row Row) Derived(now api.Millis, idleAfter time.Duration) api.DerivedStatus {
	return derived(row.TokenExpiresAt, cmp.Or(row.LastActiveAt, row.CreatedAt), now, idleAfter)
}

func derived(expiresAt, activeAt, now api.Millis, idleAfter time.Duration) api.DerivedStatus {
	switch {
	case expiresAt != 0 && expiresAt <= now:
		return api.DerivedExpired
	case activeAt.Add(idleAfter) <= now:
		return api.DerivedIdle
	}
	return api.DerivedActive
}

// Credential tells how revocation judges a session at the door: a Rollcall token by its epoch, a foreign one by its iat, none
// (publishable key) not at all. Once inside, a session is judged by the epoch under which it came in; see SetApplication.
type Credential struct {
	Kind     CredentialKind
	Epoch    uint64     // of a Rollcall token
	IssuedAt api.Millis // of a foreign token
}

// pack returns what counts of a credential beside its kind; unpack is the way back.
func (c Credential) pack() uint64 {
	if c.Kind == CredentialForeign {
		return uint64(c.IssuedAt)
	}
	return c.Epoch
}

func unpack(kind CredentialKind, packed uint64) Credential {
	if kind == CredentialForeign {
		return Credential{Kind: kind, IssuedAt: api.Millis(packed)}
	}
	return Credential{Kind: kind, Epoch: packed}
}

// CredentialKind is the kind of a Credential.
type CredentialKind uint8

// The kinds of credentials.
const (
	CredentialNone     CredentialKind = 0
	CredentialRollcall CredentialKind = 1
	CredentialForeign  CredentialKind = 2
)

// Gate is what decides at the door of an application. Epoch and RevokedAt only ever rise.
type Gate struct {
	State     api.ApplicationState
	Epoch     uint64
	RevokedAt api.Millis // by SQL's clock; 0 = never
}

// Errors of Insert and Update.
var (
	ErrRevoked  = errors.New("credential is from before a revocation")
	ErrPaused   = errors.New("application is paused")
	ErrArchived = errors.New("application is archived")
	ErrQuota    = errors.New("authorized sessions of the plan are used up")
	ErrExists   = errors.New("session is already in the registry")
	ErrGone     = errors.New("session is not in the registry")
	ErrServerID = errors.New("server id does not end in the session id")
	ErrTooLong  = errors.New("texts of the row are longer than 64 KiB")
)

// admits judges a credential at the door.
func (g Gate) admits(c Credential) error {
	switch {
	case g.State == api.ApplicationArchived:
		return ErrArchived
	case g.State != api.ApplicationActive:
		return ErrPaused
	case c.Kind == CredentialRollcall && c.Epoch < g.Epoch:
		return ErrRevoked
	case c.Kind == CredentialForeign && g.RevokedAt != 0 && seconds(c.IssuedAt) <= seconds(g.RevokedAt):
		return ErrRevoked // iat has whole seconds only: the second of the revocation counts as before it (page 3)
	}
	return nil
}

func seconds(m api.Millis) api.Millis { return m / 1000 }

// epochOf returns the epoch under which a session comes in that is opened with c. A Rollcall token from a later epoch than the
// gate's proves that the session was opened after a revocation that this node has yet to hear of. A foreign token proves nothing
// of the kind: its iat is by another clock, and may lie ahead.
func (g Gate) epochOf(c Credential) uint64 {
	if c.Kind == CredentialRollcall {
		return max(g.Epoch, c.Epoch)
	}
	return g.Epoch
}
