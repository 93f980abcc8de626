package manage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

// object is a JSON object from outside: a body, or a message on a stream. encoding/json into a struct would match names in any
// case, keep the last of two equal names, put U+FFFD for broken text and name no field in most of its errors; so the fields are
// read one by one. As in params, the first fault is kept.
type object struct {
	path   string // what stands before a field's name in messages: "" or "plan."
	fields map[string]json.RawMessage
	asked  []string
	err    *error // shared with the objects inside
}

// parseObject reads an object and nothing after it. Faults are those of the text as a whole: syntax, encoding, a name twice.
func parseObject(data []byte) (*object, error) {
	if !utf8.Valid(data) {
		return nil, errors.New("it is not valid UTF-8")
	}
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	o := &object{err: new(error)}
	if err := json.Unmarshal(data, &o.fields); err != nil || o.fields == nil {
		return nil, errors.New("it is not a JSON object")
	}
	return o, nil
}

// checkJSON walks one whole JSON value and refuses what encoding/json lets pass: names given twice (RFC 8259, section 4, leaves
// open which one counts), escapes of half a surrogate pair, data after the value.
func checkJSON(data []byte) error {
	if loneSurrogate(data) {
		return errors.New(`it has a \u escape of half a surrogate pair`)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type level struct {
		names   map[string]bool // nil for an array
		isValue bool            // the next token is a value, not a name
	}
	var open []level
	for first := true; first || len(open) > 0; first = false {
		tok, err := dec.Token()
		if err != nil {
			return syntaxError(err)
		}
		top := len(open) - 1
		if top >= 0 && open[top].names != nil {
			if name, ok := tok.(string); ok && !open[top].isValue {
				if open[top].names[name] {
					return fmt.Errorf("%q is given twice", clip(name))
				}
				open[top].names[name], open[top].isValue = true, true
				continue
			}
			open[top].isValue = false
		}
		switch tok {
		case json.Delim('{'):
			open = append(open, level{names: map[string]bool{}})
		case json.Delim('['):
			open = append(open, level{})
		case json.Delim('}'), json.Delim(']'):
			open = open[:top]
		}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something after the JSON value")
	}
	return nil
}

func syntaxError(err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("it is not JSON: %s at byte %d", syntax.Error(), syntax.Offset)
	}
	return errors.New("it is not JSON: it ends too early")
}

// loneSurrogate tells whether a \uD800–\uDFFF escape stands without its other half (RFC 8259, section 8.2).
func loneSurrogate(data []byte) bool {
	unit := func(i int) (uint64, bool) {
		if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
			return 0, false
		}
		n, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
		return n, err == nil
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		n, ok := unit(i)
		switch {
		case !ok:
			i++ // a two-character escape
		case n < 0xD800 || n > 0xDFFF:
			i += 5
		default:
			low, ok := unit(i + 6)
			if n > 0xDBFF || !ok || low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 11
		}
	}
	return false
}

func (o *object) fail(name, accepts string) {
	if *o.err == nil {
		*o.err = api.Errorf(api.CodeValidation, "%s%s must be %s", o.path, name, accepts)
	}
}

// get returns a field's raw value; ok is false when it is absent.
func (o *object) get(name string) (json.RawMessage, bool) {
	if !slices.Contains(o.asked, name) {
		o.asked = append(o.asked, name)
	}
	raw, ok := o.fields[name]
	return raw, ok
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// scalar reads a field into a T; nil when it is absent. JSON null is not a T.
func scalar[T any](o *object, name, accepts string) *T {
	raw, ok := o.get(name)
	if !ok {
		return nil
	}
	v := new(T)
	if isNull(raw) || json.Unmarshal(raw, v) != nil {
		o.fail(name, accepts)
		return nil
	}
	return v
}

func (o *object) text(name string) *string { return scalar[string](o, name, "a string") }

func (o *object) boolean(name string) *bool { return scalar[bool](o, name, "true or false") }

// integer reads decimal digits, as params does: 10.0 and 1e1 are refused.
func (o *object) integer(name string, low, high int) *int {
	v := scalar[int](o, name, wholeNumber(low, high))
	if v != nil && (*v < low || *v > high) {
		o.fail(name, wholeNumber(low, high))
		return nil
	}
	return v
}

func (o *object) duration(name string) *api.Duration {
	return scalar[api.Duration](o, name, `a duration such as "90s", "5m" or "720h"`)
}

// list reads an array of Ts; a null inside is not a T.
func list[T any](o *object, name, accepts string) *[]T {
	v := scalar[[]*T](o, name, accepts)
	if v == nil {
		return nil
	}
	out := make([]T, 0, len(*v))
	for _, item := range *v {
		if item == nil {
			o.fail(name, accepts)
			return nil
		}
		out = append(out, *item)
	}
	return &out
}

// object reads an object inside; nil when it is absent or null or of another type, the latter two being faults.
func (o *object) object(name string) *object {
	fields := scalar[map[string]json.RawMessage](o, name, "an object")
	if fields == nil {
		return nil
	}
	return &object{path: o.path + name + ".", fields: *fields, err: o.err}
}

// done returns the first fault; a field that was never asked for is one.
func (o *object) done() error {
	if *o.err != nil {
		return *o.err
	}
	unknown := []string{}
	for name := range o.fields {
		if !slices.Contains(o.asked, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) > 0 {
		slices.Sort(unknown)
		*o.err = api.Errorf(api.CodeValidation, "%s%s is not a field of the body; it takes %s", o.path, clip(unknown[0]), oneOf(o.asked))
	}
	return *o.err
}

// readBody reads the JSON object that a POST or PATCH must carry.
func (c *call) readBody() (*object, error) {
	if err := checkMediaType(c.r.Header); err != nil {
		return nil, err
	}
	tooLarge := func() error {
		c.metrics.limits[limitBody].Inc()
		return api.Errorf(api.CodeBodyTooLarge, "the body must be at most %d bytes", c.limits.MaxBody)
	}
	if c.r.ContentLength > int64(c.limits.MaxBody) {
		return nil, tooLarge()
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, int64(c.limits.MaxBody)))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, tooLarge()
		}
		return nil, api.Errorf(api.CodeValidation, "the body could not be read to its end")
	}
	o, err := parseObject(data)
	if err != nil {
		return nil, api.Errorf(api.CodeValidation, "the body must be a JSON object: %s", err.Error())
	}
	return o, nil
}

func checkMediaType(h http.Header) error {
	kind, args, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset, given := args["charset"]
	switch {
	case len(h.Values("Content-Type")) > 1, err != nil, kind != "application/json", given && !strings.EqualFold(charset, "utf-8"):
		return api.Errorf(api.CodeUnsupportedMediaType, "Content-Type must be application/json, in UTF-8")
	case h.Get("Content-Encoding") != "" && !strings.EqualFold(h.Get("Content-Encoding"), "identity"):
		return api.Errorf(api.CodeUnsupportedMediaType, "Content-Encoding is not accepted")
	}
	return nil
}
