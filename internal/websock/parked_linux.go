package websock

import (
	"cmp"
	"errors"
	"io"
	"net"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rollcallhq/rollcall/api"
)

// maxUnsent bounds what waits for a peer that does not read, beyond what the kernel keeps; more closes the connection.
const maxUnsent = 32 << 10

// Parked is a connection whose socket waits in a Poller: at rest it has neither goroutine nor buffer. Receive, Discard and Release
// are for its driver alone, one call at a time; the other methods are safe for concurrent use, and none waits for the peer.
type Parked struct {
	poller *Poller
	owner  Waker
	max    int // bytes of a message

	// The driver's own.
	parser  *parser // nil between messages
	pending []byte  // read, not parsed: what came with the upgrade, or the rest of the driver's buffer
	dropped int     // bytes read and thrown away since the close frame

	// mu is held over system calls, all of which return at once: the descriptor must not be closed, and become another
	// connection's, under a write.
	mu      sync.Mutex
	fd      int    // -1 after Release; the driver may read it without mu
	unsent  []byte // what a full socket did not take: the rest of the frames that were sent, in order
	closing bool   // set once, by the first of BeginClose and Close
	broken  bool   // the socket cannot be written any more
	ended   bool   // our data has ended: all of it was sent, the close frame last
	gone    bool   // the driver has read the end of the peer's data, and is about to close
}

// Receive returns the next message. ErrTimeout says that the peer has sent no more for now: the owner is woken when it has. buf is
// what it reads into, and is not to be used for anything else before Keep. The rest is as for Conn.
func (c *Parked) Receive(buf []byte) (Message, error) {
	c.mu.Lock()
	closing := c.closing
	if !closing {
		c.flushLocked()
	}
	c.mu.Unlock()
	if closing {
		return Message{}, net.ErrClosed
	}
	for {
		if len(c.pending) > 0 {
			if c.parser == nil {
				c.parser = &parser{max: c.max}
			}
			msg, rest, ok, err := c.parser.next(c.pending)
			c.pending = rest
			if ok || err != nil {
				return msg, err
			}
		}
		var err error
		if c.pending, err = c.read(buf); err != nil {
			if c.parser != nil && c.parser.atRest() {
				c.parser = nil
			}
			return Message{}, err
		}
	}
}

// Keep ends the use of the driver's buffer: what was read and not parsed becomes the connection's own.
func (c *Parked) Keep() {
	if len(c.pending) == 0 {
		c.pending = nil // it may point into the buffer
		return
	}
	c.pending = slices.Clone(c.pending)
}

// read reads what is there: ErrTimeout for nothing, io.EOF at the end of the peer's data.
func (c *Parked) read(buf []byte) ([]byte, error) {
	for {
		switch n, err := unix.Read(c.fd, buf); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return nil, ErrTimeout
		case err != nil || n == 0:
			c.mu.Lock()
			c.gone = true
			c.mu.Unlock()
			return nil, cmp.Or(err, io.EOF)
		default:
			return buf[:n], nil
		}
	}
}

// Send is Conn.Send, but that what a full socket does not take is kept for later, up to 32 KiB; more closes the connection.
func (c *Parked) Send(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.broken {
		return net.ErrClosed
	}
	c.writeLocked(frames)
	if c.broken {
		return net.ErrClosed
	}
	return nil
}

// writeLocked sends frames after what is unsent.
func (c *Parked) writeLocked(frames []byte) {
	n := 0
	if len(c.unsent) == 0 {
		n = c.writeNowLocked(frames)
	}
	if rest := frames[n:]; len(rest) > 0 && !c.broken {
		if len(c.unsent)+len(rest) > maxUnsent {
			c.breakLocked()
			return
		}
		c.unsent = append(c.unsent, rest...)
	}
}

// writeNowLocked writes what the socket takes at once, and returns how much that was.
func (c *Parked) writeNowLocked(b []byte) int {
	for {
		switch n, err := unix.Write(c.fd, b); {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0
		case err != nil:
			c.breakLocked()
			return 0
		default:
			return n
		}
	}
}

// flushLocked writes what is unsent, and ends our data after the close frame.
func (c *Parked) flushLocked() {
	if len(c.unsent) > 0 && !c.broken {
		if c.unsent = c.unsent[c.writeNowLocked(c.unsent):]; len(c.unsent) == 0 {
			c.unsent = nil
		}
	}
	if c.closing && len(c.unsent) == 0 && !c.broken && !c.ended {
		c.ended = true
		_ = unix.Shutdown(c.fd, unix.SHUT_WR) // a connection that is gone says so when it is read
	}
}

// breakLocked ends both directions: the kernel reports that, so the driver is woken, unless it knows.
func (c *Parked) breakLocked() {
	c.broken, c.unsent = true, nil
	if !c.gone {
		_ = unix.Shutdown(c.fd, unix.SHUT_RDWR)
	}
}

// BeginClose sends frames followed by a close frame, after what is unsent, and wakes the driver: Receive says net.ErrClosed from
// now on, and Discard is to follow. Only the first call of BeginClose and Close does anything; it returns whether this was it.
func (c *Parked) BeginClose(frames []byte, code api.CloseCode, reason string) bool {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return false
	}
	if !c.broken && c.fd >= 0 {
		c.writeLocked(appendClose(slices.Clone(frames), code, reason))
	}
	c.closing = true
	if c.fd >= 0 {
		c.flushLocked()
	}
	c.mu.Unlock()
	c.owner.Wake()
	return true
}

// Close closes the connection without a word, and wakes the driver.
func (c *Parked) Close() error {
	c.mu.Lock()
	c.closing = true
	if !c.broken && c.fd >= 0 {
		c.breakLocked()
	}
	c.mu.Unlock()
	c.owner.Wake()
	return nil
}

// Discard goes on with what BeginClose began: it sends what is left, and reads and drops what the peer still sends, for closing a
// socket that has unread data resets it, and a reset takes the last frames away from the peer. It returns true when Release can
// follow: after the peer's close frame, the end of its data, or 4 MiB of it. Before BeginClose or Close it does nothing.
func (c *Parked) Discard(buf []byte) (done bool) {
	c.mu.Lock()
	closing := c.closing
	if closing {
		c.flushLocked()
	}
	broken := c.broken
	c.mu.Unlock()
	if !closing || broken {
		return closing
	}
	if c.parser == nil {
		c.parser = &parser{max: c.max}
	}
	for c.dropped < lingerBytes {
		var err error
		for more := true; more && err == nil; more = len(c.pending) > 0 {
			_, c.pending, _, err = c.parser.next(c.pending)
		}
		if end := (*CloseError)(nil); errors.As(err, &end) && end.Peer {
			return true
		}
		if c.pending, err = c.read(buf); err != nil {
			return !errors.Is(err, ErrTimeout)
		}
		c.dropped += len(c.pending)
	}
	return true
}

// Release closes the socket. The owner is not woken any more.
func (c *Parked) Release() {
	c.poller.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = unix.Close(c.fd)
	c.fd, c.broken, c.closing, c.unsent = -1, true, true, nil
}
