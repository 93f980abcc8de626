package websock

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/rollcallhq/rollcall/api"
)

// maxFragments bounds the frames of one message: without it, empty fragments would keep a message open for ever, at no cost to
// any limit that counts messages or bytes.
const maxFragments = 1024

// parser turns a client's bytes into messages, in whatever chunks they come: it keeps a partial header, payload or rune across
// calls, so that a socket can be left in the middle of a frame and fed later. It holds no memory between messages. Every check is
// made at the first byte that allows it; the length, before any of the payload is read.
type parser struct {
	max int // bytes of a message

	head  [14]byte // the header so far: nhead bytes of it
	nhead int

	// The frame whose payload is being read, when inFrame.
	inFrame bool
	fin     bool
	op      Op
	mask    [4]byte
	read    int // of length
	length  int

	// The data message being collected; msgOp is 0 when there is none. msg[:valid] is whole, valid UTF-8.
	msgOp     Op
	msg       []byte
	valid     int
	fragments int

	control []byte // the payload of the control frame being read

	err *CloseError // nothing is read after it
}

// next consumes in up to the end of the next message and returns what is left of in. ok is false when in is used up before that.
func (p *parser) next(in []byte) (msg Message, rest []byte, ok bool, err error) {
	for p.err == nil {
		if !p.inFrame {
			if in = p.header(in); !p.inFrame {
				break
			}
		}
		in = p.payload(in)
		if p.err != nil || p.read < p.length {
			break
		}
		p.inFrame = false
		if msg, ok = p.endFrame(); ok {
			return msg, in, true, nil
		}
	}
	if p.err != nil {
		return Message{}, nil, false, p.err
	}
	return Message{}, in, false, nil
}

// atRest tells whether there is nothing to keep: no message or frame has begun.
func (p *parser) atRest() bool { return p.nhead == 0 && !p.inFrame && p.msgOp == 0 && p.err == nil }

// header reads header bytes until the frame begins, a violation, or the end of in.
func (p *parser) header(in []byte) []byte {
	for len(in) > 0 {
		p.head[p.nhead] = in[0]
		p.nhead++
		in = in[1:]
		ext := 0
		if p.nhead >= 2 {
			ext = extended(p.head[1])
		}
		if p.nhead == 2 {
			p.checkStart()
		}
		if p.err == nil && p.nhead == 2+ext {
			p.checkLength(ext)
		}
		if p.err != nil {
			return in
		}
		if p.nhead == 2+ext+4 {
			p.mask = [4]byte(p.head[2+ext:])
			p.begin()
			return in
		}
	}
	return in
}

// extended returns how many bytes of extended length follow the second byte of a header.
func extended(second byte) int {
	switch second &^ bitMask {
	case len16:
		return 2
	case len64:
		return 8
	}
	return 0
}

// checkStart judges the first two bytes (RFC 6455, sections 5.1 to 5.5).
func (p *parser) checkStart() {
	first, second := p.head[0], p.head[1]
	fin, op := first&bitFin != 0, Op(first&0x0f)
	switch op {
	case opContinuation:
		if p.msgOp == 0 {
			p.violation("continuation frame without a message")
		}
	case Text, Binary:
		if p.msgOp != 0 {
			p.violation("new message inside a fragmented one")
		}
	case opClose, Ping, Pong:
		if !fin {
			p.violation("fragmented control frame")
		} else if second&^bitMask > maxControl {
			p.violation("control frame longer than 125 bytes")
		}
	default:
		p.violation("reserved opcode")
	}
	if first&bitsRSV != 0 {
		p.violation("reserved bit set")
	}
	if second&bitMask == 0 {
		p.violation("frame is not masked")
	}
}

// checkLength judges the length, before any of the payload is read.
func (p *parser) checkLength(ext int) {
	n := uint64(p.head[1] &^ bitMask)
	least := uint64(0)
	switch ext {
	case 2:
		n, least = uint64(binary.BigEndian.Uint16(p.head[2:])), len16
	case 8:
		n, least = binary.BigEndian.Uint64(p.head[2:]), 1<<16
	}
	switch {
	case n < least:
		p.violation("length is not in its shortest form")
	case n>>63 != 0:
		p.violation("length has its highest bit set")
	case Op(p.head[0]&0x0f) < opClose && n > uint64(p.max-len(p.msg)):
		p.fail(api.CloseTooBig, fmt.Sprintf("message is larger than %d bytes", p.max))
	}
	p.length = int(n)
}

// begin starts the payload of the frame whose header is complete.
func (p *parser) begin() {
	p.fin, p.op = p.head[0]&bitFin != 0, Op(p.head[0]&0x0f)
	p.inFrame, p.read, p.nhead = true, 0, 0
	switch p.op {
	case Text, Binary:
		p.msgOp, p.fragments = p.op, 1
	case opContinuation:
		if p.fragments++; p.fragments > maxFragments {
			p.fail(api.CloseTooBig, fmt.Sprintf("message has more than %d fragments", maxFragments))
		}
	default: // control frames are not part of a message
	}
}

// payload takes what in has of the frame's payload.
func (p *parser) payload(in []byte) []byte {
	n := min(len(in), p.length-p.read)
	dst := &p.msg
	if p.op >= opClose {
		dst = &p.control
	}
	start := len(*dst)
	*dst = append(*dst, in[:n]...)
	ws.Cipher((*dst)[start:], p.mask, p.read)
	p.read += n
	if p.op < opClose && p.msgOp == Text && !p.checkText(false) {
		p.fail(api.CloseInvalidPayload, "text is not valid UTF-8")
	}
	return in[n:]
}

// checkText tells whether msg is UTF-8 so far: a partial rune at its end is fine unless it is the end of the message.
func (p *parser) checkText(end bool) bool {
	if utf8.Valid(p.msg[p.valid:]) {
		p.valid = len(p.msg)
		return true
	}
	for p.valid < len(p.msg) {
		r, n := utf8.DecodeRune(p.msg[p.valid:])
		if r == utf8.RuneError && n == 1 {
			return !end && !utf8.FullRune(p.msg[p.valid:])
		}
		p.valid += n
	}
	return true
}

// endFrame handles a frame that is complete and returns the message that it completes.
func (p *parser) endFrame() (Message, bool) {
	switch p.op {
	case opClose:
		p.closeFrame()
		return Message{}, false
	case Ping, Pong:
		msg := Message{Op: p.op, Data: p.control}
		p.control = nil
		return msg, true
	default:
		return p.endFragment()
	}
}

// endFragment returns the data message that a frame with its FIN bit completes.
func (p *parser) endFragment() (Message, bool) {
	if !p.fin {
		return Message{}, false
	}
	if p.msgOp == Text && !p.checkText(true) {
		p.fail(api.CloseInvalidPayload, "text is not valid UTF-8")
		return Message{}, false
	}
	msg := Message{Op: p.msgOp, Data: p.msg}
	p.msgOp, p.msg, p.valid = 0, nil, 0
	return msg, true
}

// closeFrame judges the peer's close frame (RFC 6455, sections 5.5.1 and 7.4).
func (p *parser) closeFrame() {
	body := p.control
	if len(body) == 0 {
		p.err = &CloseError{Peer: true, Code: NoStatus, Reason: "closed by the peer"}
		return
	}
	if len(body) == 1 {
		p.violation("close frame with half a code")
		return
	}
	code := api.CloseCode(binary.BigEndian.Uint16(body))
	switch {
	case !validCloseCode(code):
		p.violation("close frame with an invalid code")
	case !utf8.Valid(body[2:]):
		p.fail(api.CloseInvalidPayload, "close reason is not valid UTF-8")
	default:
		p.err = &CloseError{Peer: true, Code: code, Reason: string(body[2:])}
	}
}

// validCloseCode tells whether a peer may send the code: registered ones but 1004–1006 and 1015, which never travel, and those of
// libraries and applications (RFC 6455, section 7.4.2, and the IANA registry).
func validCloseCode(code api.CloseCode) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return code >= 3000 && code <= 4999
}

func (p *parser) violation(reason string) { p.fail(api.CloseProtocolError, reason) }

// fail keeps the first violation.
func (p *parser) fail(code api.CloseCode, reason string) {
	if p.err == nil {
		p.err = &CloseError{Code: code, Reason: reason}
	}
}
