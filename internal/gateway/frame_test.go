package gateway

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/api"
)

func TestParseFrame(t *testing.T) {
	tests := []struct {
		in   string
		kind string // "-" = not a frame
	}{
		{`{"type":"activity"}`, "activity"},
		{" \n{\"type\" : \"activity\"}\t", "activity"},
		{`{"a":[1,{"type":"x"}],"type":"bye"}`, "bye"},
		{`{"ty\u0070e":"bye"}`, "bye"},
		{`{"type":""}`, ""},
		{`{"Type":"a","type":"b","TYPE":"c"}`, "b"},
		{`{"type":"a","type":"b"}`, "a"},
		{``, "-"},
		{`{}`, "-"},
		{`null`, "-"},
		{`[]`, "-"},
		{`"type"`, "-"},
		{`{"Type":"a"}`, "-"},
		{`{"type":null}`, "-"},
		{`{"type":1}`, "-"},
		{`{"type":["a"]}`, "-"},
		{`{"type":"a"`, "-"},
		{`{"type":"a"}}`, "-"},
		{`{"type":"a"}{"type":"b"}`, "-"},
		{`{"type":"a"} x`, "-"},
		{`{"type":"a",}`, "-"},
		{`{'type':'a'}`, "-"},
		{`{"type":"a\ud800"}`, "-"},
		{"{\"type\":\"a\nb\"}", "-"},
		{`{"type":"a","x":01}`, "-"},
		{`{"type":"a","x":NaN}`, "-"},
		{`{"x":` + strings.Repeat("[", 15000), "-"},
		{strings.Repeat("{", 15000), "-"},
	}
	for _, tt := range tests {
		f, ok := parseFrame([]byte(tt.in))
		got := "-"
		if ok {
			got = f.kind
		}
		if got != tt.kind {
			t.Errorf("%.60s: type %q, want %q", tt.in, got, tt.kind)
		}
	}
}

func TestFields(t *testing.T) {
	long := strings.Repeat("x", 256)
	tests := []struct {
		field, value string
		ok           bool
	}{
		{"token", `""`, true},
		{"token", `"\ud800"`, true}, // it will not verify, but it is a string
		{"token", `null`, true},
		{"token", `5`, false},
		{"token", `["a"]`, false},
		{"token", `{}`, false},
		{"token", `true`, false},
		{"publishableKey", `5`, false},
		{"application", `123456789`, false},
		{"clientId", `null`, true},
		{"clientId", `"abcd"`, true},
		{"clientId", `"日本語κ"`, true},
		{"clientId", `"` + strings.Repeat("日", 64) + `"`, true},
		{"clientId", `"a b-1"`, true},
		{"clientId", `""`, false},
		{"clientId", `"abc"`, false},
		{"clientId", `"` + strings.Repeat("日", 65) + `"`, false},
		{"clientId", `"abc\u0000d"`, false},
		{"clientId", `"abc\n"`, false},
		{"clientId", `"abc\u007f"`, false},
		{"clientId", `"abc\u202e"`, false}, // right-to-left override
		{"clientId", `"abc\u2066"`, false},
		{"clientId", `"abc\u200b"`, false}, // zero width space
		{"clientId", `"abc\ufeff"`, false},
		{"clientId", `"abc\ue000"`, false}, // private use
		{"clientId", `"abcd\ud83d"`, false},
		{"clientId", `"abc\ud83d\ude00"`, true},
		{"clientId", `1234`, false},
		{"name", `""`, true},
		{"name", `"` + long + `"`, true},
		{"name", `"` + long + `y"`, false},
		{"name", `"` + long[:255] + `é"`, false},
		{"name", `"a\u202eb\u0007\n<img>"`, true}, // kept as it is: who shows it, escapes it
		{"name", `"a\u0000b"`, true},
		{"name", `"\udc00\ud800"`, false},
		{"name", `"\ud83dx"`, false},
		{"name", `"\\ud800"`, true}, // a backslash, not an escape
		{"name", `"\ufffd"`, true},  // the replacement character itself
		{"name", `7`, false},
		{"hostname", `{}`, false},
		{"userAgent", `[]`, false},
		{"clientInfo", `null`, true},
		{"clientInfo", `{}`, true},
		{"clientInfo", `{"a":{"b":{"c":{}}}}`, true},
		{"clientInfo", `{"a":{"b":{"c":{"d":{}}}}}`, false},
		{"clientInfo", `{"a":[[[1]]]}`, true},
		{"clientInfo", `{"a":[[[[1]]]]}`, false},
		{"clientInfo", `{"a":"{{{{{{"}`, true},
		{"clientInfo", `{"a":"\"{{{{{{"}`, true},
		{"clientInfo", `[]`, false},
		{"clientInfo", `"x"`, false},
		{"clientInfo", `{"a":"` + strings.Repeat("x", 4096-8) + `"}`, true},
		{"clientInfo", `{"a":"` + strings.Repeat("x", 4096-7) + `"}`, false},
	}
	for _, tt := range tests {
		f, ok := parseFrame([]byte(`{"type":"hello","` + tt.field + `":` + tt.value + `,"unknown":[1,"x"]}`))
		if !ok {
			t.Errorf("%s: %.60s: not a frame", tt.field, tt.value)
			continue
		}
		_, err := readHello(f)
		if (err == nil) != tt.ok || err != nil && !strings.HasPrefix(toldError(err).Message, tt.field+" must be ") {
			t.Errorf("%s: %.60s: %v", tt.field, tt.value, err)
		}
	}
}

func TestFieldsGivenTwice(t *testing.T) {
	for _, field := range []string{"token", "publishableKey", "application", "clientId", "name", "hostname", "userAgent", "clientInfo", "type"} {
		value := `"hello"`
		if field == "clientInfo" {
			value = `{}`
		}
		f, _ := parseFrame([]byte(`{"type":"hello","` + field + `":` + value + `,"` + field + `":` + value + `,"x":1,"x":2}`))
		if _, err := readHello(f); err == nil || toldError(err).Message != field+" must be given once" {
			t.Errorf("%s: %v", field, err)
		}
	}
	f, _ := parseFrame([]byte(`{"type":"hello","x":1,"x":2,"Token":5,"CLIENTID":5}`))
	if _, err := readHello(f); err != nil {
		t.Errorf("unknown fields: %v", err)
	}
}

// FuzzHello holds what is accepted of a client's first frame to the limits.
func FuzzHello(f *testing.F) {
	f.Add([]byte(`{"type":"hello","token":"a.b.c","application":"123456789","clientId":"client-001","name":"n","hostname":"h"}`))
	f.Add([]byte(`{"type":"hello","clientInfo":{"name":"x","v":[1,{"y":"\ud83d\ude00"}]}}`))
	f.Add([]byte(`{"type":"hello","clientId":"abc\u202ed","name":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) || len(data) > api.MaxFrame {
			return // never reaches the parser
		}
		frame, ok := parseFrame(data)
		if !ok {
			return
		}
		if !json.Valid(data) {
			t.Fatal("accepted what is not JSON")
		}
		h, err := readHello(frame)
		if err != nil {
			return
		}
		for _, s := range []*string{h.clientID, h.name, h.hostname, h.userAgent} {
			if s != nil && (len(*s) > api.MaxString || !utf8.ValidString(*s)) {
				t.Fatalf("accepted %q", *s)
			}
		}
		if h.clientInfo != nil && (len(h.clientInfo) > api.MaxClientInfo || !bytes.Contains(data, h.clientInfo) || h.clientInfo[0] != '{') {
			t.Fatalf("accepted %s", h.clientInfo)
		}
	})
}
