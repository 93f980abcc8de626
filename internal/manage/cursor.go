package manage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/rollcallhq/rollcall/api"
)

// A cursor is a position in an application's sessions: base64url of a check sum, the time and the server id. The sum binds it to
// the application and finds a cursor that was cut, edited or taken from elsewhere; it guards no secret, for what a cursor can
// reach is decided by the key alone.
const cursorSum = 8

func encodeCursor(app api.ApplicationID, at api.Position) string {
	body := binary.BigEndian.AppendUint64(nil, uint64(at.CreatedAt)) // the same bits come back
	body = append(body, at.ServerID...)
	return base64.RawURLEncoding.EncodeToString(append(sumCursor(app, body), body...))
}

// decodeCursor accepts what encodeCursor gives, byte for byte.
func decodeCursor(app api.ApplicationID, cursor string) (api.Position, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) < cursorSum+8 {
		return api.Position{}, false
	}
	at := api.Position{
		CreatedAt: api.Millis(binary.BigEndian.Uint64(raw[cursorSum:])), // as encoded
		ServerID:  api.ServerID(raw[cursorSum+8:]),
	}
	return at, encodeCursor(app, at) == cursor
}

func sumCursor(app api.ApplicationID, body []byte) []byte {
	h := sha256.New()
	h.Write([]byte("rollcall cursor 1"))
	h.Write(app[:])
	h.Write(body)
	return h.Sum(nil)[:cursorSum]
}
