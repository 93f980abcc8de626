// Package mcp makes the clients of a Model Context Protocol server visible in Rollcall, and lets operators cut them off. It wraps the
// http.Handler of any Streamable HTTP server, of both generations of the protocol: up to 2025-11-25, where the transport has sessions,
// and from 2026-07-28 on, where it has none. docs/mcp.md says how requests become sessions, and what a client sees when it is ended.
//
//	tracker, err := mcp.New(mcp.Config{URL: "https://rollcall.example.com", Key: key, Application: app})
//	go tracker.Run(ctx)
//	http.Handle("/mcp", tracker.Middleware(handler))
//
// NewProxy is such a handler for a server in another process; the two together are the gateway `rollcall mcp`.
//
// # Promises
//
// What the wrapped handler writes passes through as it is written, and what it reads is what the client sent, byte for byte: at most
// the first 256 KiB of a POST are looked at before they are passed on. A request is attributed to who presented its credential, and only
// once the handler has accepted it (2xx). The first answer of a new session waits until Rollcall has it, at most Config.OpenWait, and
// not at all while Rollcall is away: the server goes on without it, unless Config.FailClosed. An end that Rollcall tells cancels the
// session's requests at once; its credential gets 401 from then on, its Mcp-Session-Id 404. Memory is bounded by
// Config.MaxSessions, whatever clients send.
//
// A Tracker may be used from any number of goroutines. No lock is held while a handler runs or a client is written to.
//
// # Not promised
//
// A handler that ignores its request's context keeps its stream open when the session ends, though nothing that it writes arrives.
// Requests are not authenticated unless Config.Tokens says how: without that, whom the wrapped handler accepts is welcome.
package mcp
