//go:build !linux

package gateway

import (
	"net"
	"time"
)

// setUserTimeout does nothing: a client that vanished keeps its stream until the system gives the connection up.
func setUserTimeout(net.Conn, time.Duration) {}
