package api

import (
	"bytes"
	"cmp"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// ID is a UUID that names a T. The type parameter keeps the id of one kind of object from being used for another. The zero value
// is the nil UUID, which names nothing.
type ID[T any] [16]byte

// OrganizationID names an organization. On the wire ids are lower-case UUIDs of 36 characters.
type OrganizationID = ID[Organization]

// ApplicationID names an application; people also know it by its decimal number.
type ApplicationID = ID[Application]

// SessionID names a session, live or ended.
type SessionID = ID[Session]

// NewID returns a random (version 4) id.
func NewID[T any]() ID[T] { return ID[T](uuid.New()) }

// NewSessionID returns a time-ordered (version 7) id, so that the records of sessions that start together lie together in SQL.
func NewSessionID() SessionID { return SessionID(uuid.Must(uuid.NewV7())) }

// ParseID reads the 36-character form of a UUID, in either case, and no other form.
func ParseID[T any](s string) (ID[T], error) {
	if len(s) == 36 { // the length of one of the forms that package uuid reads
		if id, err := uuid.Parse(s); err == nil {
			return ID[T](id), nil
		}
	}
	return ID[T]{}, fmt.Errorf("%q is not a UUID", clip(s))
}

// MustID is ParseID for constants; it panics on anything that is not a UUID.
func MustID[T any](s string) ID[T] {
	id, err := ParseID[T](s)
	if err != nil {
		panic(err)
	}
	return id
}

// String returns the 36-character form.
func (id ID[T]) String() string { return uuid.UUID(id).String() }

// IsZero tells whether id is the nil UUID.
func (id ID[T]) IsZero() bool { return id == ID[T]{} }

// Compare orders ids bytewise.
func (id ID[T]) Compare(other ID[T]) int { return bytes.Compare(id[:], other[:]) }

// MarshalText returns the 36-character form.
func (id ID[T]) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID.
func (id *ID[T]) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID[T](string(text))
	return err
}

// Value stores the 36-character form in SQL.
func (id ID[T]) Value() (driver.Value, error) { return id.String(), nil }

// Scan reads the 36-character form from SQL.
func (id *ID[T]) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return id.UnmarshalText([]byte(v))
	case []byte:
		return id.UnmarshalText(v)
	}
	return fmt.Errorf("cannot read a UUID from %T", src)
}

// ServerID names a live session and its owner: "<node>:<session id>". It is minted when the session opens and never changes.
type ServerID string

// NewServerID joins the parts of a ServerID.
func NewServerID(node string, session SessionID) ServerID {
	return ServerID(node + ":" + session.String())
}

// Split returns the node and the session id; ok is false when id does not have the form of a ServerID.
func (id ServerID) Split() (node string, session SessionID, ok bool) {
	i := strings.LastIndexByte(string(id), ':')
	if i <= 0 {
		return "", session, false
	}
	session, err := ParseID[Session](string(id[i+1:]))
	return string(id[:i]), session, err == nil
}

// Position is a place in the order of sessions, newest first: CreatedAt descending, then ServerID descending, bytewise. The zero
// Position is after every session; to start at the newest, pass no position.
type Position struct {
	CreatedAt Millis
	ServerID  ServerID
}

// Compare returns a negative number when p comes before q in a list, newest first.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(q.CreatedAt, p.CreatedAt); c != 0 {
		return c
	}
	return cmp.Compare(q.ServerID, p.ServerID)
}

// clip bounds what a message repeats of a caller's words.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
