// Package hostile holds tests alone: what clients that break the rules, or stretch them, can do to a whole server over real
// sockets. Each test runs against a server on plain TCP and one that serves TLS, for the two are driven differently, and all of
// them speak to it through a client made of bytes, so that nothing stands between a malformed request and the server.
//
// It promises of the server: an attack ends as docs/protocol.md says, a session beside it goes on, nothing is left behind (rows,
// connections), the log stays one line an event, and no secret is in it. What the parser and the protocol do with every
// input is the business of the packages websock, gateway and tenant, and is tested there.
package hostile
