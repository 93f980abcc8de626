package input

import (
	"encoding/json"
	"testing"
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
