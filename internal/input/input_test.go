package input

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzBody: what ParseBody accepts is what encoding/json accepts, without two equal names.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{`{}`, `{"a":1,"b":{"a":1}}`, `{"a":1,"a":2}`, `{"a":[{"b":1,"b":1}]}`, `{"\u0061":1,"a":2}`, `{"a":"\\ud800"}`,
		`{"a":"\ud800\u0041"}`, `{"a":"\udbff\udfff"}`, ` {"a" : 1} `, `{"a":1`, `{"a":1}}`, `{"a":"\u00zz"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := ParseBody(data)
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
		if _, err := ParseBody(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// FuzzFrame: ParseFrame takes apart as json.Decoder does.
func FuzzFrame(f *testing.F) {
	for _, seed := range []string{`{}`, " {\t}\r\n", `{"type":"hello"}`, `{"a":1,"a":2,"a":3}`, `{"a\"\\":"\\\"","b":[{"c":"}"},[]]}`, `{"\u0061":1,"a":2}`,
		` { "a" : -1.5e+3 , "b" : [ 1 , { } ] , "" : null } `, `[1]`, `1`, `"a"`, `{"a":1}}`, `{"a":1} {}`, `{"a":tru}`, `{"a":"\ud800"}`, `{"a":"é"}`, ``, `{,}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if !utf8.Valid(data) {
			return
		}
		fields, repeated, valid := decodeFrame(data)
		o, ok := ParseFrame(data)
		if ok != valid {
			t.Fatalf("%q: %v, a decoder says %v", data, ok, valid)
		}
		if ok && (!maps.EqualFunc(o.fields, fields, slices.Equal[json.RawMessage]) || !maps.Equal(o.repeated, repeated)) {
			t.Fatalf("%q: %q %v, a decoder says %q %v", data, o.fields, o.repeated, fields, repeated)
		}
	})
}

// decodeFrame is ParseFrame by json.Decoder.
func decodeFrame(data []byte) (fields map[string]json.RawMessage, repeated map[string]bool, ok bool) {
	fields = map[string]json.RawMessage{}
	dec := json.NewDecoder(bytes.NewReader(data))
	if open, err := dec.Token(); err != nil || open != json.Delim('{') {
		return nil, nil, false
	}
	for dec.More() {
		key, err := dec.Token()
		name, isName := key.(string)
		var value json.RawMessage
		if err != nil || !isName || dec.Decode(&value) != nil {
			return nil, nil, false
		}
		if _, has := fields[name]; !has {
			fields[name] = value
			continue
		}
		if repeated == nil {
			repeated = map[string]bool{}
		}
		repeated[name] = true
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, nil, false
	}
	_, err := dec.Token()
	return fields, repeated, errors.Is(err, io.EOF)
}

func BenchmarkParseFrame(b *testing.B) {
	frame := []byte(`{"type":"hello","token":"` + strings.Repeat("eyJhbGciOiJIUzI1NiIs", 15) + `","application":"123456789","clientId":"client-001",` +
		`"name":"Ada's desktop","hostname":"mbp-14","userAgent":"Client/1.2","clientInfo":{"name":"client","version":"1.2"}}`)
	b.Run("split", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ParseFrame(frame)
		}
	})
	b.Run("decoder", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			decodeFrame(frame)
		}
	})
}
