// Package input reads JSON objects from outside: bodies, messages of operators' streams, frames of the session protocol. It owns what
// is accepted as an object and as each kind of field, and how the first fault is told: the field, and what it accepts.
//
// encoding/json into a struct would match names in any case, keep the last of two equal names, put U+FFFD for broken text and name no
// field in most of its errors; so fields are read one by one, by their exact names. The readers return a usable value whatever
// came; the first fault is kept, so that a caller reads all that it knows, in the documented order, and asks once. An Object is for
// one goroutine. Nothing here knows what a request is for.
package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

// Object is a JSON object.
type Object struct {
	path     string // what stands before a field's name in messages: "" or "plan."
	fields   map[string]json.RawMessage
	repeated map[string]bool // names that were given twice; ParseBody refuses those
	nulls    bool            // null is a value; else it is the same as leaving the field out
	asked    []string
	err      *error // shared with the objects inside
}

// ParseBody reads an object and nothing after it. The error says what is wrong with the text as a whole: its encoding, its syntax, a
// name given twice anywhere in it. JSON null is a value of no kind.
func ParseBody(data []byte) (*Object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not valid UTF-8")
	}
	if err := check(data); err != nil {
		return nil, err
	}
	o := &Object{nulls: true, err: new(error)}
	if err := json.Unmarshal(data, &o.fields); err != nil || o.fields == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return o, nil
}

// ParseFrame reads a frame whose bytes are valid UTF-8; false unless it is one JSON object. What nobody asks for is not looked at;
// null is the same as leaving a field out, and a field given twice is a fault when it is asked for. The object keeps no part of data.
func ParseFrame(data []byte) (*Object, bool) {
	if !json.Valid(data) {
		return nil, false
	}
	o := &Object{fields: make(map[string]json.RawMessage, 8), err: new(error)}
	return o, o.split(bytes.Clone(data))
}

// split takes the members out of valid JSON; false when it is not an object. A json.Decoder does the same at three times the cost,
// which every frame would pay.
func (o *Object) split(valid []byte) bool {
	const space = " \t\r\n"
	rest := bytes.Trim(valid, space)
	if rest[0] != '{' {
		return false
	}
	for rest = bytes.TrimLeft(rest[1:], space); rest[0] != '}'; rest = bytes.TrimLeft(rest, ","+space) {
		n := valueLen(rest)
		name := string(rest[1 : n-1])
		if strings.IndexByte(name, '\\') >= 0 {
			_ = json.Unmarshal(rest[:n], &name) // a valid string: it cannot fail
		}
		rest = bytes.TrimLeft(rest[n:], ":"+space)
		n = valueLen(rest)
		if _, has := o.fields[name]; !has {
			o.fields[name] = rest[:n:n]
		} else if o.repeated == nil {
			o.repeated = map[string]bool{name: true}
		} else {
			o.repeated[name] = true
		}
		rest = bytes.TrimLeft(rest[n:], space)
	}
	return true
}

// valueLen is the length of the value with which valid JSON begins.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; ; i++ {
		switch b[i] {
		case '"':
			for i++; b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			continue
		default:
			for i+1 < len(b) && bytes.IndexByte([]byte(",:]} \t\r\n"), b[i+1]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
}

// Empty returns an object without fields, as a body that may be left out.
func Empty() *Object { return &Object{err: new(error)} }

// Set gives a field that was absent a string.
func (o *Object) Set(name, value string) {
	raw, _ := json.Marshal(value) // a string: it cannot fail
	if o.fields == nil {
		o.fields = map[string]json.RawMessage{}
	}
	o.fields[name] = raw
}

// NullIsNone makes null the same as leaving a field out, as in frames, and returns the object.
func (o *Object) NullIsNone() *Object {
	o.nulls = false
	return o
}

// Fail keeps a fault of a field, unless there is one already: "<field> must be <accepts>".
func (o *Object) Fail(name, accepts string) {
	if *o.err == nil {
		*o.err = api.Errorf(api.CodeValidation, "%s%s must be %s", o.path, name, accepts)
	}
}

// Require keeps the fault of a field that is not there.
func (o *Object) Require(name string) {
	if _, ok := o.Get(name); !ok && *o.err == nil {
		*o.err = api.Errorf(api.CodeValidation, "%s%s is required", o.path, name)
	}
}

// Err returns the first fault, an *api.Error with validation_error; nil when there is none.
func (o *Object) Err() error { return *o.err }

// Done is Err after everything was read: a field that was never asked for is a fault, too.
func (o *Object) Done() error {
	if *o.err != nil {
		return *o.err
	}
	if unknown := o.Unknown(); unknown != "" {
		*o.err = api.Errorf(api.CodeValidation, "%s%s is not a field of the body; it takes %s", o.path, Clip(unknown), OneOf(o.asked))
	}
	return *o.err
}

// Unknown returns the first of the fields that were never asked for, "" when there are none.
func (o *Object) Unknown() string {
	unknown := ""
	for name := range o.fields {
		if !slices.Contains(o.asked, name) && (unknown == "" || name < unknown) {
			unknown = name
		}
	}
	return unknown
}

// Get returns a field's raw value; ok is false when it is absent.
func (o *Object) Get(name string) (json.RawMessage, bool) {
	if !slices.Contains(o.asked, name) {
		o.asked = append(o.asked, name)
	}
	if o.repeated[name] {
		o.Fail(name, "given once")
	}
	raw, ok := o.fields[name]
	if ok && !o.nulls && IsNull(raw) {
		return nil, false
	}
	return raw, ok
}

// IsNull tells whether a raw value is JSON null.
func IsNull(raw json.RawMessage) bool { return string(raw) == "null" }

// Scalar reads a field into a T; nil when it is absent. JSON null is not a T.
func Scalar[T any](o *Object, name, accepts string) *T {
	raw, ok := o.Get(name)
	if !ok {
		return nil
	}
	v := new(T)
	if IsNull(raw) || json.Unmarshal(raw, v) != nil {
		o.Fail(name, accepts)
		return nil
	}
	return v
}

// String reads any string; nil when it is absent.
func (o *Object) String(name string) *string { return Scalar[string](o, name, "a string") }

// Boolean reads true or false; nil when it is absent.
func (o *Object) Boolean(name string) *bool { return Scalar[bool](o, name, "true or false") }

// Integer reads decimal digits: 10.0 and 1e1 are refused. nil when it is absent.
func (o *Object) Integer(name string, low, high int) *int {
	v := Scalar[int](o, name, WholeNumber(low, high))
	if v != nil && (*v < low || *v > high) {
		o.Fail(name, WholeNumber(low, high))
		return nil
	}
	return v
}

// Duration reads a duration as Go writes it; nil when it is absent.
func (o *Object) Duration(name string) *api.Duration {
	return Scalar[api.Duration](o, name, `a duration such as "90s", "5m" or "720h"`)
}

// List reads an array of Ts; a null inside is not a T. nil when it is absent.
func List[T any](o *Object, name, accepts string) *[]T {
	v := Scalar[[]*T](o, name, accepts)
	if v == nil {
		return nil
	}
	out := make([]T, 0, len(*v))
	for _, item := range *v {
		if item == nil {
			o.Fail(name, accepts)
			return nil
		}
		out = append(out, *item)
	}
	return &out
}

// Inside reads an object inside; nil when it is absent or null or of another type, the latter two being faults.
func (o *Object) Inside(name string) *Object {
	fields := Scalar[map[string]json.RawMessage](o, name, "an object")
	if fields == nil {
		return nil
	}
	return &Object{path: o.path + name + ".", fields: *fields, nulls: o.nulls, err: o.err}
}

// AllInside reads an array of objects, each with faults of its own; nil when the field is absent or something else, which is a fault.
func (o *Object) AllInside(name string) []*Object {
	all := Scalar[[]map[string]json.RawMessage](o, name, "an array of objects")
	if all == nil {
		return nil
	}
	objects := make([]*Object, 0, len(*all))
	for i, fields := range *all {
		if fields == nil {
			o.Fail(name, "an array of objects")
			return nil
		}
		objects = append(objects, &Object{path: fmt.Sprintf("%s%s[%d].", o.path, name, i), fields: fields, nulls: o.nulls, err: new(error)})
	}
	return objects
}
