// Package api is Rollcall's public contract: the objects and frames of the Live Sessions and Sessions APIs and of the session
// protocol, the error table, the reasons for which sessions end, and the limits. Server, client, command line and tests all use
// these definitions, so that every wire fact is written once. The package does no I/O and holds no state; its values are safe for
// concurrent use when they are not written to.
package api
