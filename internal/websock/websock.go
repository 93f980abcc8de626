// Package websock is the server side of RFC 6455 on a connection taken over from net/http: the checks of an upgrade, bounded and
// resumable reading of messages, writing any number of frames in one write, and the close handshake. The gateway and the streams
// of the management API share it.
//
// It promises: nothing is taken over before the request is checked; a message is at most Config.MaxMessage bytes however it is
// fragmented; every violation that RFC 6455 names ends in a *CloseError with the code to send; a Receive that times out has lost
// nothing; what BeginClose or CloseWith sent is not lost to bytes that the peer sent meanwhile. Receive is for one goroutine at a
// time; Send and the ways to close are safe for concurrent use. No compression is offered. It knows nothing of what the messages
// mean, and answers none of them, pings and close frames included.
package websock

import (
	"errors"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

// Config configures Upgrade.
type Config struct {
	Subprotocol  string        // chosen when the client offers it; "" = none
	MaxMessage   int           // bytes; 0 = api.MaxFrame
	WriteTimeout time.Duration // of one Send; 0 = 10 s
	// SendBuffer bounds what the kernel keeps for a peer that reads slowly, bytes; 0 = the system's, which may grow to megabytes.
	SendBuffer int
}

// Op is the kind of a Message; the values are those of RFC 6455, section 5.2.
type Op byte

// The kinds of messages.
const (
	Text   Op = 1
	Binary Op = 2
	Ping   Op = 9
	Pong   Op = 10
)

// Opcodes that are not the kind of a Message.
const (
	opContinuation Op = 0
	opClose        Op = 8
)

// Message is a whole message from the peer. Data is valid until the next Receive.
type Message struct {
	Op   Op
	Data []byte
}

// CloseError is the end of reading: the peer's close frame (Peer true, its code, NoStatus when it gave none), or a violation, for
// which Code should be sent.
type CloseError struct {
	Peer   bool
	Code   api.CloseCode
	Reason string
}

// Error describes the end.
func (e *CloseError) Error() string { return e.Reason }

// NoStatus stands for a close frame without a code (RFC 6455, section 7.1.5). A close frame sent with it has no body.
const NoStatus api.CloseCode = 1005

// ErrTimeout is returned by Receive at its deadline.
var ErrTimeout = errors.New("deadline reached")

// Waker is told when there is something to do for a parked connection. Wake is called without locks of this package, must not
// block, and may come when nothing is to be done.
type Waker interface{ Wake() }
