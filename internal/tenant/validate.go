package tenant

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

const (
	maxOrigins = 100
	maxURL     = 2048 // bytes
	maxSecret  = 1024 // bytes
	maxReason  = api.MaxReason
	// MinTokenSeconds and MaxTokenSeconds bound the life of the tokens that Rollcall issues.
	MinTokenSeconds = 1
	// MaxTokenSeconds is 30 days.
	MaxTokenSeconds = 30 * 24 * 60 * 60
)

var (
	numberForm      = regexp.MustCompile(`^[1-9][0-9]{0,19}$`)
	publishableForm = regexp.MustCompile(`^rca_[a-z0-9]{16}$`)
	publicIDForm    = regexp.MustCompile(`^[a-z0-9]{16}$`)
	keyForm         = regexp.MustCompile(`^rck_([a-z0-9]{16})_([A-Za-z0-9]{48})$`)
	lastFourForm    = regexp.MustCompile(`^[A-Za-z0-9]{4}$`)
	originForm      = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?$`)
)

// problem is a field with a value that is not accepted. The management API and the bootstrap file share it; they differ in how
// they name the place. It never carries the value, which may be a secret.
type problem struct {
	field string // such as tokens.hs256Secret
	must  string // such as "must be …"
}

func problemf(field, format string, args ...any) *problem {
	return &problem{field, fmt.Sprintf(format, args...)}
}

func (p *problem) Error() string { return p.field + " " + p.must }

func (p *problem) api() *api.Error { return api.Errorf(api.CodeValidation, "%s", p.Error()) }

// first returns the first problem, as an error that is nil when there is none.
func first(problems ...*problem) error {
	for _, p := range problems {
		if p != nil {
			return p
		}
	}
	return nil
}

// checkName checks the name of something that operators configure.
func checkName(field string, name *string) *problem {
	if name == nil {
		return nil
	}
	if *name == "" || len(*name) > api.MaxString || !utf8.ValidString(*name) || strings.ContainsFunc(*name, unicode.IsControl) {
		return problemf(field, "must be 1 to %d bytes of UTF-8 without control characters", api.MaxString)
	}
	return nil
}

// checkText checks a string that clients show, as hello does (page 3).
func checkText(field, s string) *problem {
	if len(s) > api.MaxString || !utf8.ValidString(s) {
		return problemf(field, "must be at most %d bytes of valid UTF-8", api.MaxString)
	}
	return nil
}

// checkClientID checks a client's id, as hello does (page 3).
func checkClientID(field, s string) *problem {
	n := utf8.RuneCountInString(s)
	if n < api.MinClientID || n > api.MaxClientID || !utf8.ValidString(s) ||
		strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return problemf(field, "must be %d to %d printable characters", api.MinClientID, api.MaxClientID)
	}
	return nil
}

func checkID[T any](field string, id *api.ID[T]) *problem {
	if id != nil && id.IsZero() {
		return problemf(field, "must be a UUID other than the nil UUID")
	}
	return nil
}

func checkNumber(number *string) *problem {
	if number != nil && !numberForm.MatchString(*number) {
		return problemf("number", "must be a string of 1 to 20 decimal digits without a leading zero, such as 123456789")
	}
	return nil
}

func checkPublishableKey(key *string) *problem {
	if key != nil && !publishableForm.MatchString(*key) {
		return problemf("publishableKey", "must be rca_ and 16 characters of a-z and 0-9")
	}
	return nil
}

func checkIdleAfter(d *api.Duration) *problem {
	if d != nil && time.Duration(*d) < api.MinIdleAfter {
		return problemf("idleAfter", "must be a duration of at least 1s, such as 5m")
	}
	return nil
}

func checkState(state *api.ApplicationState) *problem {
	if state != nil && *state != api.ApplicationActive && *state != api.ApplicationPaused {
		return problemf("state", "must be active or paused")
	}
	return nil
}

func checkOrigins(origins *[]string) *problem {
	if origins == nil {
		return nil
	}
	if len(*origins) > maxOrigins {
		return problemf("allowedOrigins", "must be at most %d origins", maxOrigins)
	}
	for i, origin := range *origins {
		if len(origin) > api.MaxString || !originForm.MatchString(strings.ToLower(origin)) {
			return problemf(fmt.Sprintf("allowedOrigins[%d]", i),
				"must be an origin as browsers send it, scheme://host or scheme://host:port, such as https://app.example.com")
		}
	}
	return nil
}

// normalOrigins writes origins as browsers do, each once.
func normalOrigins(origins []string) []string {
	normal := make([]string, 0, len(origins))
	for _, origin := range origins {
		if origin = normalOrigin(origin); !slices.Contains(normal, origin) {
			normal = append(normal, origin)
		}
	}
	return normal
}

// normalOrigin writes an origin in lower case, without the scheme's default port (RFC 6454, section 6.2).
func normalOrigin(origin string) string {
	origin = strings.ToLower(origin)
	if host, ok := strings.CutPrefix(origin, "https://"); ok {
		return "https://" + strings.TrimSuffix(host, ":443")
	}
	if host, ok := strings.CutPrefix(origin, "http://"); ok {
		return "http://" + strings.TrimSuffix(host, ":80")
	}
	return origin
}

func checkTokens(in *TokensInput) *problem {
	if in == nil {
		return nil
	}
	if in.HS256Secret != "" && in.JWKSURL != "" {
		return problemf("tokens", "must have hs256Secret or jwksUrl, not both")
	}
	if in.HS256Secret != "" && (len(in.HS256Secret) < api.MinHS256Secret || len(in.HS256Secret) > maxSecret) {
		return problemf("tokens.hs256Secret", "must be %d to %d bytes", api.MinHS256Secret, maxSecret)
	}
	if in.JWKSURL != "" && !isURL(in.JWKSURL) {
		return problemf("tokens.jwksUrl", "must be an http or https URL without user information, of at most %d bytes", maxURL)
	}
	for _, s := range []struct{ field, value string }{{"tokens.issuer", in.Issuer}, {"tokens.audience", in.Audience}} {
		if p := checkText(s.field, s.value); p != nil {
			return p
		}
		if s.value != "" && in.HS256Secret == "" && in.JWKSURL == "" {
			return problemf(s.field, "must come with hs256Secret or jwksUrl: token settings are replaced whole")
		}
	}
	return nil
}

func isURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && len(s) <= maxURL && (u.Scheme == "https" || u.Scheme == "http") && u.Hostname() != "" && u.User == nil &&
		u.Fragment == ""
}

func checkPlan(plan *PlanInput) *problem {
	switch {
	case plan == nil:
		return nil
	case plan.MaxAuthorizedSessions != nil && *plan.MaxAuthorizedSessions < 0:
		return problemf("plan.maxAuthorizedSessions", "must be a number of at least 0, or null for no limit")
	case plan.HistoryRetention != nil && time.Duration(*plan.HistoryRetention) < time.Second:
		return problemf("plan.historyRetention", "must be a duration of at least 1s, such as 720h")
	case plan.Name != "":
		return checkName("plan.name", &plan.Name)
	}
	return nil
}

func checkScopes(scopes *[]api.Scope) *problem {
	if scopes == nil {
		return nil
	}
	for i, scope := range *scopes {
		if !slices.Contains(api.Scopes, scope) {
			return problemf(fmt.Sprintf("scopes[%d]", i), "must be one of %s", scopeNames())
		}
	}
	return nil
}

func scopeNames() string {
	names := make([]string, len(api.Scopes))
	for i, scope := range api.Scopes {
		names[i] = string(scope)
	}
	return strings.Join(names, ", ")
}

// normalScopes puts scopes in the order of api.Scopes, each once.
func normalScopes(scopes []api.Scope) []api.Scope {
	normal := make([]api.Scope, 0, len(scopes))
	for _, scope := range api.Scopes {
		if slices.Contains(scopes, scope) {
			normal = append(normal, scope)
		}
	}
	return normal
}

func checkExpiry(at *api.Millis) *problem {
	if at != nil && (*at < 0 || *at > maxMillis) {
		return problemf("expiresAt", "must be a time such as 2027-01-01T00:00:00Z, before the year 10000")
	}
	return nil
}

func checkReason(reason string) *problem {
	if !utf8.ValidString(reason) || utf8.RuneCountInString(reason) > maxReason {
		return problemf("reason", "must be at most %d characters of valid UTF-8", maxReason)
	}
	return nil
}

// maxMillis is the last millisecond that a Timestamp can be written for, at the end of the year 9999.
var maxMillis = api.MillisOf(time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC))
