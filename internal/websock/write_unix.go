//go:build unix

package websock

import (
	"errors"
	"net"
	"syscall"
)

// writeNow writes what a TCP socket takes without waiting, and returns how much that was. On other connections it writes all of b,
// under the write deadline.
func writeNow(conn net.Conn, b []byte) (int, error) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn.Write(b)
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	n := 0
	var werr error
	err = raw.Write(func(fd uintptr) bool {
		n, werr = syscall.Write(int(fd), b)
		return true // never wait for the socket
	})
	if err == nil && werr != nil && !errors.Is(werr, syscall.EAGAIN) && !errors.Is(werr, syscall.EINTR) {
		err = werr
	}
	return max(n, 0), err
}
