package websock

import (
	"encoding/binary"
	"strings"

	"github.com/rollcallhq/rollcall/api"
)

// maxControl is the longest payload of a control frame (RFC 6455, section 5.5).
const maxControl = 125

// Bits and marks of a frame's header (RFC 6455, section 5.2).
const (
	bitFin  = 0x80
	bitsRSV = 0x70
	bitMask = 0x80
	len16   = 126
	len64   = 127
)

// AppendText appends an unmasked text frame.
func AppendText(dst, payload []byte) []byte { return appendFrame(dst, Text, payload) }

// AppendControl appends a ping or pong of at most 125 bytes; a longer payload is cut.
func AppendControl(dst []byte, op Op, payload []byte) []byte {
	return appendFrame(dst, op, payload[:min(len(payload), maxControl)])
}

// appendClose appends a close frame; the reason is cut to what fits, at a rune boundary.
func appendClose(dst []byte, code api.CloseCode, reason string) []byte {
	if code == NoStatus {
		return appendFrame(dst, opClose, nil)
	}
	if len(reason) > maxControl-2 {
		reason = strings.ToValidUTF8(reason[:maxControl-2], "")
	}
	body := binary.BigEndian.AppendUint16(make([]byte, 0, maxControl), uint16(code))
	return appendFrame(dst, opClose, append(body, reason...))
}

func appendFrame(dst []byte, op Op, payload []byte) []byte {
	dst = append(dst, bitFin|byte(op))
	switch n := len(payload); {
	case n < len16:
		dst = append(dst, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, len16), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, len64), uint64(n))
	}
	return append(dst, payload...)
}
