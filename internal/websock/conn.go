package websock

import (
	"errors"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

const (
	defaultWriteTimeout = 10 * time.Second
	// finalTimeout bounds how long BeginClose waits for a connection that cannot be written without waiting (TLS, pipes).
	finalTimeout = time.Second
	// Sizes of the read buffer: small while nothing arrives, for that is what an idle connection costs.
	idleBuffer = 512
	busyBuffer = 4096
	// lingerBytes bounds what is read and thrown away after a close frame.
	lingerBytes = 4 << 20
)

// past is a deadline that interrupts a read at once.
var past = time.Unix(1, 0)

// Conn is an open WebSocket.
type Conn struct {
	conn         net.Conn
	writeTimeout time.Duration

	mu      sync.Mutex
	idle    sync.Cond // a reader or a writer has finished
	reading bool      // someone owns parser, buf and pending
	writing bool      // someone owns leftover and writes: frames stay whole and in order
	closing bool      // set once, by the first of BeginClose, CloseWith and Close
	final   []byte    // what BeginClose wants written: whoever is writing does it before anything else

	parser  parser
	buf     []byte
	pending []byte // read, not parsed

	leftover []byte // of final, which a full socket did not take
}

func newConn(conn net.Conn, cfg Config, early []byte) *Conn {
	c := &Conn{conn: conn, writeTimeout: cfg.WriteTimeout, pending: early, parser: parser{max: cfg.MaxMessage}}
	c.idle.L = &c.mu
	if c.writeTimeout <= 0 {
		c.writeTimeout = defaultWriteTimeout
	}
	if c.parser.max <= 0 {
		c.parser.max = api.MaxFrame
	}
	return c
}

// acquire waits until it owns one of reading and writing. An owner is never kept waiting for ever: reads are interrupted by
// BeginClose, and writes have a deadline.
func (c *Conn) acquire(flag *bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for *flag {
		c.idle.Wait()
	}
	*flag = true
}

func (c *Conn) releaseReading() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	c.idle.Broadcast()
}

// releaseWriting writes what BeginClose left for the writer, if anything, and gives writing up.
func (c *Conn) releaseWriting() {
	for {
		c.mu.Lock()
		final := c.final
		if c.final = nil; final == nil {
			c.writing = false
			c.idle.Broadcast()
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		c.writeFinal(final)
	}
}

func (c *Conn) isClosing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

// Receive returns the next message; control frames between fragments come as they arrive. At the deadline (zero = none) it returns
// ErrTimeout and can be called again. After BeginClose, CloseWith or Close it returns net.ErrClosed; the end of the peer's data is
// io.EOF, or what the network says. Receive does not answer pings.
func (c *Conn) Receive(deadline time.Time) (Message, error) {
	c.acquire(&c.reading)
	defer c.releaseReading()
	// First the deadline, then the look at closing: BeginClose does both the other way round, so one of the two is seen. A
	// connection that takes no deadline is closed, and the read says so.
	_ = c.conn.SetReadDeadline(deadline)
	for {
		if c.isClosing() {
			return Message{}, net.ErrClosed
		}
		msg, err := c.read()
		if err == nil && msg.Op == 0 {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if err = ErrTimeout; c.isClosing() {
				err = net.ErrClosed
			}
		}
		return msg, err
	}
}

// read parses what is pending, or reads once; a Message without Op means that more is needed.
func (c *Conn) read() (Message, error) {
	msg, rest, ok, err := c.parser.next(c.pending)
	c.pending = rest
	if ok || err != nil {
		return msg, err
	}
	switch {
	case c.parser.inFrame && len(c.buf) < busyBuffer && c.parser.length-c.parser.read > len(c.buf):
		c.buf = make([]byte, busyBuffer)
	case len(c.buf) != idleBuffer && c.parser.msgOp == 0 && !c.parser.inFrame:
		c.buf = make([]byte, idleBuffer)
	}
	n, err := c.conn.Read(c.buf)
	c.pending = c.buf[:n]
	if n > 0 {
		err = nil // it comes again with the next read
	}
	return Message{}, err
}

// Send writes frames, made with the Append functions, in one write. A write that fails or times out closes the connection.
func (c *Conn) Send(frames []byte) error {
	c.acquire(&c.writing)
	defer c.releaseWriting()
	// As in Receive: BeginClose shortens the deadline of a write that it finds under way.
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.writeTimeout))
	if c.isClosing() {
		return net.ErrClosed
	}
	_, err := c.conn.Write(frames)
	if err != nil {
		_ = c.conn.Close() // part of a frame may be out: nothing can follow it
	}
	return err
}

// BeginClose sends frames followed by a close frame, in one write after whatever is being sent, and interrupts Receive. Only the
// first call does anything; it returns whether this was it, and then Linger or Close must follow. On plain TCP it never waits for
// the peer: what a full socket does not take is left to Linger. Elsewhere it waits at most a second.
func (c *Conn) BeginClose(frames []byte, code api.CloseCode, reason string) bool {
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		return false
	}
	c.closing, c.final = true, appendClose(slices.Clone(frames), code, reason)
	busy := c.writing
	c.writing = true // ours, unless busy
	c.mu.Unlock()

	_ = c.conn.SetReadDeadline(past)
	if busy {
		_ = c.conn.SetWriteDeadline(time.Now().Add(finalTimeout))
		return true
	}
	c.releaseWriting()
	return true
}

func (c *Conn) writeFinal(final []byte) {
	_ = c.conn.SetWriteDeadline(time.Now().Add(finalTimeout))
	n, err := writeNow(c.conn, final)
	if err != nil {
		_ = c.conn.Close()
		return
	}
	if c.leftover = final[n:]; len(c.leftover) == 0 {
		c.closeWrite()
	}
}

// closeWrite ends our data where the transport can say so; the peer then has everything, and its own close can arrive.
func (c *Conn) closeWrite() {
	if half, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// Linger ends what BeginClose began: it sends what is left, waits at most d for the peer's close frame or the end of its data, and
// closes. Closing a socket that has unread data resets it, and a reset takes the last frames away from the peer; so what the peer
// still sends is read and dropped, up to 4 MiB.
func (c *Conn) Linger(d time.Duration) {
	defer c.conn.Close()
	deadline := time.Now().Add(d)
	c.acquire(&c.writing)
	if len(c.leftover) > 0 {
		_ = c.conn.SetWriteDeadline(deadline)
		_, _ = c.conn.Write(c.leftover)
		c.leftover = nil
		c.closeWrite()
	}
	c.releaseWriting()

	c.acquire(&c.reading)
	defer c.releaseReading()
	_ = c.conn.SetReadDeadline(deadline)
	c.discard()
}

// discard reads to the peer's close frame or the end of its data. After a violation only the end can be known.
func (c *Conn) discard() {
	buf := make([]byte, busyBuffer)
	for total := 0; total < lingerBytes; {
		var err error
		for more := true; more && err == nil; more = len(c.pending) > 0 {
			_, c.pending, _, err = c.parser.next(c.pending)
		}
		if end := (*CloseError)(nil); errors.As(err, &end) && end.Peer {
			return
		}
		n, err := c.conn.Read(buf)
		if err != nil {
			return
		}
		total += n
		c.pending = buf[:n]
	}
}

// CloseWith is BeginClose and Linger: it sends frames followed by a close frame, waits at most linger for the peer's close frame or
// the end of its data, and closes. Only the first call does anything. A goroutine in Receive gets an error.
func (c *Conn) CloseWith(frames []byte, code api.CloseCode, reason string, linger time.Duration) {
	if c.BeginClose(frames, code, reason) {
		c.Linger(linger)
	}
}

// Close closes the connection without a word.
func (c *Conn) Close() error {
	c.mu.Lock()
	c.closing = true
	c.mu.Unlock()
	return c.conn.Close()
}
