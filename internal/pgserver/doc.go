// Package pgserver runs a private PostgreSQL server from the installed binaries, for tests and measurements: on a socket in a
// directory of its own, as an unprivileged user when this process is root, gone at Close. It does not know what is kept there.
package pgserver

import "errors"

// ErrAbsent says that there is no PostgreSQL on this machine, or nobody who may run it.
var ErrAbsent = errors.New("PostgreSQL is not here")

const (
	// User may do everything, without a password.
	User = "rollcall"
	// Guarded is the name of a user who needs a password, once somebody has created the role.
	Guarded = "guarded"
)
