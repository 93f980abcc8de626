// Package client is Rollcall's Go client: it holds sessions, and it manages them.
//
// Concurrency: every method of Session, Manage and Admin may be called from any number of goroutines at once. A Watch has one
// reader (Next), while its other methods may be called from anywhere. A Page is a value for one goroutine. The callbacks of a
// Session (Token and OnEvent) are called one at a time, in the order in which things happened, and never while a lock is held: they
// may call the Session's methods, but Bye, which waits for them (cancel Run's context instead). Pings are answered while a
// callback runs; further events wait for it.
//
// # Holding a session
//
// Hold keeps one session open for as long as its context lives: it connects, presents a token, answers pings, renews the token
// when the server says that it is about to expire, reconnects with full jitter after trouble, and follows the server's advice
// about whether and when to come back. NewSession gives the same as an object, for callers who also report activity or change
// what is shown.
//
// # Managing sessions
//
// Manage lists, watches and ends sessions with an API key. A Watch is a page of live sessions that stays correct: it applies the
// server's deltas, and takes a fresh page when the connection was lost. Admin creates organizations and API keys with the
// server's admin token.
//
// Refused calls return a *StatusError, which wraps the *api.Error that the server answered with: compare with api.CodeOf.
package client
