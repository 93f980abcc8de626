package manage

import (
	"encoding/json"
	"net/http"
	"net/url"
	"testing"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
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

// FuzzObject: what parseObject accepts is what encoding/json accepts, without two equal names.
func FuzzObject(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":{"a":1}}`, `{"a":1,"a":2}`, `{"a":[{"b":1,"b":1}]}`, `{"\u0061":1,"a":2}`, `{"a":"\\ud800"}`,
		`{"a":"\ud800\u0041"}`, `{"a":"\udbff\udfff"}`, ` {"a" : 1} `, `{"a":1`, `{"a":1}}`, `{"a":"\u00zz"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseObject(data)
		var reference map[string]any
		refErr := json.Unmarshal(data, &reference)
		if err != nil {
			return
		}
		if refErr != nil || reference == nil {
			t.Fatalf("accepted %q: %v", data, refErr)
		}
		if len(o.fields) != len(reference) {
			t.Fatalf("%d fields of %d", len(o.fields), len(reference))
		}
		again, err := json.Marshal(reference)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseObject(again); err != nil {
			t.Fatalf("%s: %v", again, err)
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
