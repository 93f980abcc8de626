package input

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

// The fields that describe a session, in a hello, an update and a lease alike (page 3 of the specification).

// Credential returns a string as it is: whatever it holds, it is judged as a credential and not as a field (page 3, 4203). nil when
// it is absent.
func (o *Object) Credential(name string) *string {
	raw, ok := o.Get(name)
	if !ok {
		return nil
	}
	if raw[0] != '"' {
		o.Fail(name, "a string")
		return nil
	}
	s, ok := decodeString(raw)
	if !ok {
		s = "\ufffd" // no credential has it
	}
	return &s
}

// Text returns a string that is shown: at most 256 bytes, any character. nil when it is absent.
func (o *Object) Text(name string) *string {
	raw, ok := o.Get(name)
	if !ok {
		return nil
	}
	s, ok := decodeString(raw)
	if !ok || len(s) > api.MaxString {
		o.Fail(name, fmt.Sprintf("a string of at most %d bytes of valid UTF-8", api.MaxString))
		return nil
	}
	return &s
}

// ClientID returns a client's id; nil when it is absent.
func (o *Object) ClientID(name string) *string {
	raw, ok := o.Get(name)
	if !ok {
		return nil
	}
	s, ok := decodeString(raw)
	n := utf8.RuneCountInString(s)
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	if !ok || n < api.MinClientID || n > api.MaxClientID || strings.ContainsFunc(s, unprintable) {
		o.Fail(name, fmt.Sprintf("a string of %d to %d printable characters", api.MinClientID, api.MaxClientID))
		return nil
	}
	return &s
}

// ClientInfo returns a client's metadata, a JSON object, byte for byte; nil when it is absent.
func (o *Object) ClientInfo(name string) json.RawMessage {
	raw, ok := o.Get(name)
	if !ok {
		return nil
	}
	if raw[0] != '{' || len(raw) > api.MaxClientInfo || depth(raw) > api.MaxClientDepth {
		o.Fail(name, fmt.Sprintf("an object of at most %d bytes and %d levels", api.MaxClientInfo, api.MaxClientDepth))
		return nil
	}
	return bytes.Clone(raw)
}

// Kind returns the string that says what an object is, such as a frame's type; false when there is none.
func (o *Object) Kind(name string) (string, bool) {
	raw, _ := o.Get(name)
	return decodeString(raw)
}
