package store

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Text from clients may hold any byte, and PostgreSQL's text neither NUL nor bytes that are not UTF-8. So one spelling is used
// for every engine: U+0001 introduces an escape. It keeps the bytewise order of valid text, which server ids and keyset paging
// need: NUL becomes 01 01 and U+0001 becomes 01 02, both below every other character. Refused: dropping the characters (what a
// client sent is kept as it was sent) and a bytea column (unreadable for people who look into the database).
const (
	escapeMark    = '\x01'
	escapeNUL     = '\x01'
	escapeItself  = '\x02'
	escapeInvalid = '\x03' // followed by the byte as two hexadecimal digits
)

// escape returns s as it is stored.
func escape[T ~string](t T) string {
	s := string(t)
	if strings.IndexByte(s, 0) < 0 && strings.IndexByte(s, escapeMark) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0:
			b.WriteString(string([]byte{escapeMark, escapeNUL}))
		case r == escapeMark:
			b.WriteString(string([]byte{escapeMark, escapeItself}))
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, "%c%c%02x", escapeMark, escapeInvalid, s[i])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// unescape undoes escape. What escape never writes is kept as it is.
func unescape(s string) string {
	if strings.IndexByte(s, escapeMark) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != escapeMark || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		switch next := s[i+1]; next {
		case escapeNUL:
			b.WriteByte(0)
			i++
		case escapeItself:
			b.WriteByte(escapeMark)
			i++
		case escapeInvalid:
			v, err := strconv.ParseUint(s[i+2:min(i+4, len(s))], 16, 8)
			if err != nil {
				b.WriteByte(s[i])
				continue
			}
			b.WriteByte(byte(v))
			i += 3
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// text is the destination of a stored string.
type text string

// Scan undoes escape.
func (t *text) Scan(src any) error {
	switch v := src.(type) {
	case string:
		*t = text(unescape(v))
		return nil
	case []byte:
		*t = text(unescape(string(v)))
		return nil
	}
	return fmt.Errorf("cannot read text from %T", src)
}
