package manage

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
)

// params reads a request's path and query. Every method returns a usable value; the first fault is kept in err, so that a handler
// reads all that it knows, in the documented order, and checks once.
type params struct {
	r      *http.Request
	values map[string][]string
	err    error
}

// readParams splits the query. net/url drops what it cannot decode and refuses a bare ';': here the first is an error, because a
// filter that silently vanished would show (or end) more than was asked for, and the second means itself.
func readParams(r *http.Request) *params {
	p := &params{r: r, values: map[string][]string{}}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(rawName)
		if err != nil || !utf8.ValidString(name) {
			p.fail("the query has a parameter whose name is not percent-encoded UTF-8")
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err != nil || !utf8.ValidString(value) {
			p.fail("%s must be percent-encoded UTF-8", input.Clip(name))
			continue
		}
		p.values[name] = append(p.values[name], value)
	}
	return p
}

func (p *params) fail(format string, args ...any) {
	if p.err == nil {
		p.err = api.Errorf(api.CodeValidation, format, args...)
	}
}

// single returns a parameter that takes one value; ok is false when it was not given.
func (p *params) single(name string) (value string, ok bool) {
	values := p.values[name]
	if len(values) > 1 {
		p.fail("%s was given %d times; it takes one value", name, len(values))
	}
	if len(values) == 0 {
		return "", false
	}
	return values[0], true
}

// integer reads a number from 1 in decimal digits, and nothing else: no sign, no space, no fraction.
func (p *params) integer(name string, def, high int) int {
	value, ok := p.single(name)
	if !ok {
		return def
	}
	n, err := strconv.ParseUint(value, 10, 63)
	if err != nil || strings.HasPrefix(value, "+") || n < 1 || n > uint64(high) { // limits are positive
		p.fail("%s must be %s", name, input.WholeNumber(1, high))
		return def
	}
	return int(n)
}

func (p *params) boolean(name string) bool {
	value, ok := p.single(name)
	if ok && value != "true" && value != "false" {
		p.fail("%s must be true or false", name)
	}
	return value == "true"
}

func (p *params) text(name string, maxChars int) string {
	value, _ := p.single(name)
	if utf8.RuneCountInString(value) > maxChars {
		p.fail("%s must be at most %d characters", name, maxChars)
	}
	return value
}

// choice reads one of a few words; "" when it was not given.
func (p *params) choice(name string, words ...string) string {
	value, ok := p.single(name)
	if ok && !slices.Contains(words, value) {
		p.fail("%s must be %s", name, input.OneOf(words))
	}
	return value
}

// choices reads a parameter that may be repeated, each time one of a few words.
func choices[T ~string](p *params, name string, words []T) []T {
	var all []T
	for _, value := range p.values[name] {
		if !slices.Contains(words, T(value)) {
			p.fail("%s must be %s, the parameter repeated for several", name, input.OneOf(words))
		}
		if !slices.Contains(all, T(value)) {
			all = append(all, T(value))
		}
	}
	return all
}

// time reads a time of the Sessions dialect; 0 when it was not given.
func (p *params) time(name string) api.Millis {
	value, ok := p.single(name)
	if !ok {
		return 0
	}
	var t api.Timestamp
	if t.UnmarshalText([]byte(value)) != nil || t <= 0 {
		p.fail("%s must be a time such as 2026-01-31T15:04:05Z", name)
	}
	return api.Millis(t)
}

// pathID reads an id from the path.
func pathID[T any](p *params, name string) api.ID[T] {
	id, err := api.ParseID[T](p.r.PathValue(name))
	if err != nil {
		p.fail("%s must be a UUID", name)
	}
	return id
}

// maxNumber bounds an application's number; anything longer is nobody's.
const maxNumber = 32

// applicationRef reads the applicationId of the Live Sessions dialect: the number, or the UUID.
func (p *params) applicationRef() string {
	value, _ := p.single("applicationId")
	if isNumber(value) {
		return value
	}
	if _, err := api.ParseID[api.Application](value); err != nil {
		p.fail("applicationId is required and must be the application's number (decimal digits) or its UUID")
	}
	return value
}

func isNumber(s string) bool {
	return len(s) >= 1 && len(s) <= maxNumber && strings.Trim(s, "0123456789") == ""
}
