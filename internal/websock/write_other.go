//go:build !unix

package websock

import "net"

// writeNow writes all of b, under the write deadline.
func writeNow(conn net.Conn, b []byte) (int, error) { return conn.Write(b) }
