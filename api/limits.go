package api

import "time"

// Limits of the two documents and of pages 2 and 3; those that an operator can change are defaults.
const (
	DefaultPage     = 1
	DefaultPageSize = 10
	MaxPageSize     = 50
	MaxSearch       = 128 // characters
	DefaultLimit    = 100
	MaxLimit        = 1000
	MaxReason       = 256 // characters, the reason of a DELETE

	MaxBody  = 64 << 10
	MaxFrame = 16 << 10

	MinClientID     = 4 // characters, printable
	MaxClientID     = 64
	MaxString       = 256 // bytes of UTF-8: name, hostname, userAgent, login, license
	MaxClientInfo   = 4 << 10
	MaxClientDepth  = 4
	MaxToken        = 8 << 10
	FramesPerMinute = 60
	FrameBurst      = 30

	HelloTimeout     = 15 * time.Second
	PingInterval     = 25 * time.Second
	PongTimeout      = 10 * time.Second
	ExpiryNotice     = 60 * time.Second // token_expiring, or at half-life of a shorter token
	ExpiryGrace      = 30 * time.Second // from a token's expiry to 4105
	IssuedAtSkew     = 5 * time.Second  // how far a foreign token's iat may lie ahead
	DefaultIdleAfter = 5 * time.Minute
	MinIdleAfter     = time.Second
	MinHS256Secret   = 32 // bytes

	DefaultLeaseSeconds = 90
	MinLeaseSeconds     = 15
	MaxLeaseSeconds     = 3600
	LeaseMargin         = time.Minute // beyond its length a lease whose node is gone can be taken up again

	MaxSignIn = 12 * time.Hour // how long a browser is signed in at most

	MaxStreamsPerKey  = 2000
	RequestsPerSecond = 100 // management requests a key
	RequestBurst      = 500
)
