package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

// frame is a client's frame: a JSON object with a type. encoding/json would match field names in any case, let the last of two
// equal ones win, and replace what is not Unicode: here only exact names count, and what is ambiguous is refused.
type frame struct {
	kind     string
	fields   map[string]json.RawMessage
	repeated map[string]bool
	err      error // the first field that was refused; it names the field and what it accepts
}

// parseFrame reads a frame whose bytes are valid UTF-8; false unless it is one JSON object with a string `type` (4300).
func parseFrame(data []byte) (*frame, bool) {
	f := &frame{fields: map[string]json.RawMessage{}}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, false
	}
	for dec.More() {
		key, err := dec.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || dec.Decode(&value) != nil {
			return nil, false
		}
		if _, has := f.fields[name]; has {
			if f.repeated == nil {
				f.repeated = map[string]bool{}
			}
			f.repeated[name] = true
			continue
		}
		f.fields[name] = value
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, false
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, false
	}
	kind, ok := decodeString(f.fields["type"])
	f.kind = kind
	f.once("type")
	return f, ok
}

// refuse keeps the first refusal.
func (f *frame) refuse(field, accepts string) {
	if f.err == nil {
		f.err = fmt.Errorf("%s %s", field, accepts)
	}
}

// once returns a field's value; nil when it is not there or null, which is the same.
func (f *frame) once(field string) json.RawMessage {
	if f.repeated[field] {
		f.refuse(field, "must be given once")
	}
	if v := f.fields[field]; string(v) != "null" {
		return v
	}
	return nil
}

// credential returns a string as it is: whatever it holds, it is judged as a credential and not as a field (page 3, 4203).
func (f *frame) credential(field string) *string {
	raw := f.once(field)
	if raw == nil {
		return nil
	}
	if raw[0] != '"' {
		f.refuse(field, "must be a string")
		return nil
	}
	s, ok := decodeString(raw)
	if !ok {
		s = "\ufffd" // no credential has it
	}
	return &s
}

// text returns a string that is shown: at most 256 bytes, any character.
func (f *frame) text(field string) *string {
	raw := f.once(field)
	if raw == nil {
		return nil
	}
	s, ok := decodeString(raw)
	if !ok || len(s) > api.MaxString {
		f.refuse(field, fmt.Sprintf("must be a string of at most %d bytes of valid UTF-8", api.MaxString))
		return nil
	}
	return &s
}

// clientID returns the client's id.
func (f *frame) clientID(field string) *string {
	raw := f.once(field)
	if raw == nil {
		return nil
	}
	s, ok := decodeString(raw)
	n := utf8.RuneCountInString(s)
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if !ok || n < api.MinClientID || n > api.MaxClientID || strings.ContainsFunc(s, unprintable) {
		f.refuse(field, fmt.Sprintf("must be a string of %d to %d printable characters", api.MinClientID, api.MaxClientID))
		return nil
	}
	return &s
}

// object returns a JSON object, byte for byte.
func (f *frame) object(field string) json.RawMessage {
	raw := f.once(field)
	if raw == nil {
		return nil
	}
	if raw[0] != '{' || len(raw) > api.MaxClientInfo || depth(raw) > api.MaxClientDepth {
		f.refuse(field, fmt.Sprintf("must be an object of at most %d bytes and %d levels", api.MaxClientInfo, api.MaxClientDepth))
		return nil
	}
	return bytes.Clone(raw)
}

// decodeString decodes a JSON string; false when raw is none, or has an escaped surrogate without its other half.
func decodeString(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || loneSurrogate(raw) {
		return "", false
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// loneSurrogate looks for what no UTF-8 can express, and encoding/json would silently replace, in a valid JSON string.
func loneSurrogate(raw []byte) bool {
	high := false // the escape just before was the first half of a pair
	for i := 1; i < len(raw)-1; i++ {
		var unit uint64
		if raw[i] == '\\' {
			i++
			if raw[i] == 'u' {
				unit, _ = strconv.ParseUint(string(raw[i+1:i+5]), 16, 16)
				i += 4
			}
		}
		low := unit >= 0xdc00 && unit <= 0xdfff
		if low != high {
			return true
		}
		high = unit >= 0xd800 && unit <= 0xdbff
	}
	return high
}

// depth returns how deeply a valid JSON value nests; a flat object has depth 1.
func depth(raw []byte) int {
	deepest, level, quoted := 0, 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			level++
			deepest = max(deepest, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deepest
}

// encode writes a server's frame, as it is: nothing here is HTML.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // the frames are structs of strings and numbers
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func encodeError(e *api.Error) []byte {
	return encode(api.FrameError{Type: api.TypeError, Code: e.Code, Message: e.Message})
}
