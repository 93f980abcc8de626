//go:build !unix

package pgserver

import (
	"context"
	"fmt"
)

// Server is never there on this system.
type Server struct{}

// Start returns ErrAbsent.
func Start(context.Context, ...string) (*Server, error) {
	return nil, fmt.Errorf("%w: on this system it is not started", ErrAbsent)
}

// Up does nothing.
func (*Server) Up(context.Context) error { return ErrAbsent }

// Dir returns "".
func (*Server) Dir() string { return "" }

// Log returns "".
func (*Server) Log() string { return "" }

// Binaries returns "".
func (*Server) Binaries() string { return "" }

// URL returns "".
func (*Server) URL(string) string { return "" }

// Exec does nothing.
func (*Server) Exec(context.Context, string, string) error { return ErrAbsent }

// Down does nothing.
func (*Server) Down() {}

// Kill does nothing.
func (*Server) Kill() {}

// Pause does nothing.
func (*Server) Pause(context.Context) error { return ErrAbsent }

// Resume does nothing.
func (*Server) Resume() {}

// Close does nothing.
func (*Server) Close() {}
