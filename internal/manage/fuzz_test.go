package manage

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/internal/input"
	"github.com/rollcallhq/rollcall/internal/registry"
)

// FuzzCommand: a client's message gives a command or an error that the client can be told, and a moved query is one that HTTP
// accepts.
func FuzzCommand(f *testing.F) {
	for _, seed := range []string{
		`{"type":"disconnect_session","serverId":"srv-01:session-def"}`,
		`{"type":"query","page":2,"pageSize":50,"searchString":"abc","categories":["license","ip"]}`,
		`{"type":"query","categories":"ip","page":9223372036854775807}`, `{"type":"query","searchString":"\ud83d\ude00"}`,
		`{"type":"\ud800"}`, `{"a":{"b":[1,{"c":null}],"b":2}}`, `[]`, `{"type":1}`, "{\"type\":\"\xff\"}", `{"type":"query"} x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cmd, err := parseCommand(data)
		if err != nil {
			switch e := toldError(err); e.Code {
			case api.CodeValidation:
				if len(e.Message) > 400 || !utf8.ValidString(e.Message) {
					t.Fatalf("message of %d bytes", len(e.Message))
				}
			default:
				t.Fatalf("%v", err)
			}
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		if cmd.query == nil {
			return
		}
		q := cmd.query(registry.Query{Page: 1, PageSize: 10, Categories: registry.License})
		if q.Page < 1 || q.PageSize < 1 || q.PageSize > api.MaxPageSize || utf8.RuneCountInString(q.Search) > api.MaxSearch ||
			!utf8.ValidString(q.Search) || q.Categories == 0 || q.Categories > 7 {
			t.Fatalf("%+v", q)
		}
	})
}

// FuzzLeaseItem: an item of a batch is within the limits, or has an error that names its place.
func FuzzLeaseItem(f *testing.F) {
	for _, seed := range []string{
		`{"op":"open","id":"44444444-4444-4444-8444-444444444444","ipAddress":"203.0.113.9","authorized":true,"clientInfo":{"a":[1]}}`,
		`{"op":"heartbeat","id":"44444444-4444-4444-8444-444444444444","lastActiveAt":"2026-05-12T11:38:20.500Z","leaseSeconds":3600}`,
		`{"op":"open","id":null,"login":"\u0000","clientId":"abc\u202ed"}`, `{"op":"end","Op":"open"}`, `{"leaseSeconds":1e2}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := input.ParseBody(append(append([]byte(`{"items":[`), data...), `]}`...))
		if err != nil {
			return
		}
		for i, fields := range o.AllInside("items") {
			item, id, err := readLeaseItem(fields.NullIsNone())
			if err != nil {
				if told := toldError(err); told.Code != api.CodeValidation || !strings.HasPrefix(told.Message, "items["+strconv.Itoa(i)+"].") {
					t.Fatal(err)
				}
				continue
			}
			if id == nil || item.ID.IsZero() || item.Op == api.LeaseOpen && item.IPAddress == "" || len(item.ClientInfo) > api.MaxClientInfo {
				t.Fatalf("%+v", item)
			}
			for _, s := range []string{item.Login, item.License, item.CredentialID, item.Hostname, item.UserAgent, item.ClientID} {
				if len(s) > api.MaxString || !utf8.ValidString(s) {
					t.Fatalf("%q", s)
				}
			}
			if n := item.LeaseSeconds; n != 0 && (n < api.MinLeaseSeconds || n > api.MaxLeaseSeconds) {
				t.Fatal(n)
			}
		}
	})
}

// FuzzParams: any query gives values or a validation_error, and never fewer parameters than it has.
func FuzzParams(f *testing.F) {
	for _, seed := range []string{"applicationId=1&page=2&pageSize=3&searchString=%C3%A9&categories=ip&categories=license&totals=true", "%", "a=%zz",
		"&&=&", "page=%2B1", "searchString=a;b", "categories=license,ip", "page=00", "totals"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		p := readParams(&http.Request{URL: &url.URL{RawQuery: raw}})
		ref := p.applicationRef()
		q := p.view()
		if p.err != nil {
			if api.CodeOf(p.err) != api.CodeValidation || len(p.err.Error()) > 400 {
				t.Fatal(p.err)
			}
			return
		}
		if ref == "" || q.Page < 1 || q.PageSize < 1 || q.PageSize > api.MaxPageSize || !utf8.ValidString(q.Search) || q.Categories == 0 {
			t.Fatalf("%q: %q %+v", raw, ref, q)
		}
	})
}

// FuzzCursor: a cursor is a position's, or nothing.
func FuzzCursor(f *testing.F) {
	app := api.MustID[api.Application]("550e8400-e29b-41d4-a716-446655440000")
	f.Add(encodeCursor(app, api.Position{CreatedAt: 1, ServerID: "srv-01:x"}))
	f.Add("")
	f.Add("AAAA\n")
	f.Fuzz(func(t *testing.T, cursor string) {
		if at, ok := decodeCursor(app, cursor); ok && encodeCursor(app, at) != cursor {
			t.Fatalf("%q is another cursor", cursor)
		}
	})
}
