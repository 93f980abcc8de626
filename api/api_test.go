package api_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcallhq/rollcall/api"
)

func TestParseID(t *testing.T) {
	for _, tt := range []struct {
		in string
		ok bool
	}{
		{"550e8400-e29b-41d4-a716-446655440000", true},
		{"550E8400-E29B-41D4-A716-446655440000", true},
		{"", false},
		{"550e8400e29b41d4a716446655440000", false},
		{"{550e8400-e29b-41d4-a716-446655440000}", false},
		{"urn:uuid:550e8400-e29b-41d4-a716-446655440000", false},
		{"550e8400-e29b-41d4-a716-44665544000g", false},
		{"550e8400-e29b-41d4-a716-4466554400-0", false},
		{"-50e8400-e29b-41d4-a716-446655440000", false},
		{"550e8400-e29b-41d4-a716-446655440000 ", false},
		{"550e8400_e29b_41d4_a716_446655440000", false},
	} {
		id, err := api.ParseID[api.Session](tt.in)
		if (err == nil) != tt.ok {
			t.Errorf("ParseID(%q): %v", tt.in, err)
		}
		if tt.ok && id.String() != strings.ToLower(tt.in) {
			t.Errorf("ParseID(%q) = %s", tt.in, id)
		}
		if !tt.ok && !id.IsZero() {
			t.Errorf("ParseID(%q) failed and returned %s", tt.in, id)
		}
	}
}

func TestServerIDSplit(t *testing.T) {
	session := api.NewSessionID()
	for in, node := range map[api.ServerID]string{
		api.NewServerID("srv-01", session):    "srv-01",
		api.NewServerID("host:8080", session): "host:8080",
	} {
		if n, s, ok := in.Split(); !ok || n != node || s != session {
			t.Errorf("Split(%s) = %s, %s, %v", in, n, s, ok)
		}
	}
	for _, in := range []api.ServerID{"", ":", "srv-01", "srv-01:", "srv-01:session-abc", api.ServerID(":" + session.String())} {
		if _, _, ok := in.Split(); ok {
			t.Errorf("Split(%q) is ok", in)
		}
	}
}

func TestPositionsSortNewestFirst(t *testing.T) {
	positions := []api.Position{{1, "b"}, {2, "a"}, {1, "c"}, {2, "B"}, {math.MaxInt64, ""}}
	slices.SortFunc(positions, api.Position.Compare)
	want := []api.Position{{math.MaxInt64, ""}, {2, "a"}, {2, "B"}, {1, "c"}, {1, "b"}}
	if !slices.Equal(positions, want) {
		t.Errorf("got %v", positions)
	}
}

func TestTimestamp(t *testing.T) {
	for in, want := range map[string]string{
		"2026-01-31T15:04:05Z":               "2026-01-31T15:04:05.000Z",
		"2026-01-31T15:04:05.123456Z":        "2026-01-31T15:04:05.123Z",
		"2026-01-31T16:04:05.5+01:00":        "2026-01-31T15:04:05.500Z",
		"1970-01-01T00:00:00.001Z":           "1970-01-01T00:00:00.001Z",
		"2026-01-31":                         "",
		"1769871845":                         "",
		"2026-01-31 15:04:05":                "",
		"2026-13-31T15:04:05Z":               "",
		strings.Repeat("2026-01-31", 10_000): "",
	} {
		var ts api.Timestamp
		err := ts.UnmarshalText([]byte(in))
		if (err == nil) != (want != "") || err == nil && ts.String() != want {
			t.Errorf("%.40q: %s, %v", in, ts, err)
		}
		if err != nil && len(err.Error()) > 200 {
			t.Errorf("the error repeats %d bytes", len(err.Error()))
		}
	}
	if api.Millis(0).Timestamp() != nil || !api.Millis(0).Time().IsZero() || api.MillisOf(time.Time{}) != 0 {
		t.Error("zero is not kept as unknown")
	}
}

func TestCodes(t *testing.T) {
	if api.CodeOf(nil) != "" || api.CodeOf(errors.New("disk")) != api.CodeInternal {
		t.Error("CodeOf of what is no *Error")
	}
	wrapped := fmt.Errorf("here: %w", api.Errorf(api.CodeConflict, "taken"))
	if api.CodeOf(wrapped) != api.CodeConflict {
		t.Error("CodeOf does not look into the chain")
	}
	// Page 2, "Errors".
	for code, status := range map[api.Code]int{
		"validation_error": 400, "api_key_invalid": 401, "api_key_expired": 401, "api_key_revoked": 401, "insufficient_scope": 403,
		"application_forbidden": 403, "plan_restricted": 403, "application_not_found": 404, "session_not_found": 404,
		"method_not_allowed": 405, "conflict": 409, "body_too_large": 413, "unsupported_media_type": 415, "rate_limited": 429,
		"internal_error": 500, "unavailable": 503, "no_such_code": 500,
	} {
		if code.Status() != status {
			t.Errorf("%s is %d", code, code.Status())
		}
	}
}

// TestAdvice holds the disconnect frames to page 3's table of close codes.
func TestAdvice(t *testing.T) {
	for _, tt := range []struct {
		code                      api.CloseCode
		reconnect, reauthenticate bool
	}{
		{1001, true, false}, {1013, true, false}, {4100, true, true}, {4101, false, false}, {4102, false, false}, {4103, true, true},
		{4105, true, true}, {4200, true, false}, {4202, true, false}, {4201, true, false}, {4203, true, true}, {4206, true, false},
		{4300, false, false}, {4304, false, false}, {1009, false, false}, {4302, false, false},
	} {
		d := api.NewDisconnect(tt.code, "", 0)
		if d.Reconnect != tt.reconnect || d.Reauthenticate != tt.reauthenticate || d.Reason == "" || d.Code != tt.code {
			t.Errorf("%d: %+v", tt.code, d)
		}
		if named := api.NewDisconnect(tt.code, "why", 7); named.Reason != "why" || named.RetryAfterMs != 7 {
			t.Errorf("%d: %+v", tt.code, named)
		}
	}
}
