package gateway

import (
	"time"

	"github.com/rollcallhq/rollcall/internal/websock"
)

// linger is how long an ended connection is kept for the client to take its last frames.
const linger = 2 * time.Second

// drive is the driver of a session that has a goroutine: it reads until the session's next deadline, and hands over what came. A
// driver that parks the socket does the same with what the kernel reports.
func drive(s *session, conn *websock.Conn) {
	for {
		msg, err := conn.Receive(s.due())
		if !s.step(msg, err, time.Now()) {
			break
		}
	}
	s.awaitTold()
	conn.Linger(linger)
}
