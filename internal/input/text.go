package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// check walks one whole JSON value and refuses what encoding/json lets pass: names given twice (RFC 8259, section 4, leaves open
// which one counts), escapes of half a surrogate pair, data after the value.
func check(data []byte) error {
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
					return fmt.Errorf("%q is given twice", Clip(name))
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

// loneSurrogate tells whether a \uD800–\uDFFF escape stands without its other half (RFC 8259, section 8.2): no UTF-8 can express it,
// and encoding/json would silently replace it.
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

// decodeString decodes a JSON string; false when raw is none, or has an escaped surrogate without its other half.
func decodeString(raw json.RawMessage) (s string, ok bool) {
	if len(raw) == 0 || raw[0] != '"' || loneSurrogate(raw) {
		return "", false
	}
	if plain := raw[1 : len(raw)-1]; bytes.IndexByte(plain, '\\') < 0 && utf8.Valid(plain) {
		return string(plain), true // as most are; the rest needs more than a look
	}
	err := json.Unmarshal(raw, &s)
	return s, err == nil
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

// WholeNumber says what an integer accepts; high math.MaxInt stands for no upper bound.
func WholeNumber(low, high int) string {
	if high == math.MaxInt {
		return "a whole number of at least " + strconv.Itoa(low)
	}
	return "a whole number from " + strconv.Itoa(low) + " to " + strconv.Itoa(high)
}

// OneOf lists words as a sentence does: "a, b or c".
func OneOf[S ~string](words []S) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i > 0 && i == len(words)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}

// Clip bounds what a message repeats of a caller's words.
func Clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
