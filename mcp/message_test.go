package mcp

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestReadMessage(t *testing.T) {
	meta := `"_meta":{"` + metaProtocolVersion + `":"2026-07-28","` + metaClientInfo + `":{"name":"n"}}`
	for body, want := range map[string]message{
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"n"}}}`:                      {isRPC: true, active: true, initialize: true, clientInfo: json.RawMessage(`{"name":"n"}`), id: json.RawMessage("1")},
		`{"method":"tools/list","params":{` + meta + `},"jsonrpc":"2.0","id":"a"}`:                                 {isRPC: true, active: true, modern: true, version: "2026-07-28", clientInfo: json.RawMessage(`{"name":"n"}`), id: json.RawMessage(`"a"`)},
		`{"jsonrpc":"2.0","id":null,"method":"server/discover","params":{` + meta + `,"clientInfo":{"name":"x"}}}`: {isRPC: true, active: true, discover: true, modern: true, version: "2026-07-28", clientInfo: json.RawMessage(`{"name":"n"}`)},
		`{"jsonrpc":"2.0","id":1,"method":"ping"}`:                                                                 {isRPC: true, id: json.RawMessage("1")},
		`{"jsonrpc":"2.0","id":1,"result":{}}`:                                                                     {isRPC: true, id: json.RawMessage("1")},
		`{"jsonrpc":"2.0","id":1,"result":{"action":"accept"}}`:                                                    {isRPC: true, active: true, id: json.RawMessage("1")},
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`:                                                   {isRPC: true, active: true},
		`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","method":"x"}]`:                                {isRPC: true, active: true, id: json.RawMessage("1")},
		`[{"jsonrpc":"2.0","id":1,"method":"ping"},5]`:                                                             {isRPC: true, id: json.RawMessage("1")},
		`{"jsonrpc":"2.0","id":{},"method":"x","params":[1]}`:                                                      {},
		`{"jsonrpc":"2.0","method":"x","params":"text"}`:                                                           {isRPC: true, active: true},
		`{"Jsonrpc":"2.0","Method":"initialize"}`:                                                                  {},
		`{"jsonrpc":2.0,"method":"x"}`:                                                                             {},
		``:                                                                                                         {}, `5`: {}, `"x"`: {}, `{`: {}, `[`: {}, `null`: {},
	} {
		want.whole = true
		got := readMessage([]byte(body), true)
		if string(got.clientInfo) != string(want.clientInfo) || string(got.id) != string(want.id) {
			t.Errorf("%s: clientInfo %s, id %s", body, got.clientInfo, got.id)
		}
		got.clientInfo, got.id, want.clientInfo, want.id = nil, nil, nil, nil
		if body == `{"jsonrpc":"2.0","id":{},"method":"x","params":[1]}` {
			want.isRPC, want.active = true, true // as far as it was read
		}
		if got.isRPC != want.isRPC || got.active != want.active || got.initialize != want.initialize || got.modern != want.modern ||
			got.discover != want.discover || got.version != want.version {
			t.Errorf("%s: read as %+v, want %+v", body, got, want)
		}
	}
	cut := readMessage([]byte(`{"method":"tools/call","params":{"name":"x","arguments":{"a":"`+strings.Repeat("x", 100)), false)
	if !cut.isRPC || !cut.active {
		t.Errorf("what is cut short is read as %+v", cut)
	}
}

func TestDiscovered(t *testing.T) {
	m := message{version: "2026-07-28"}
	for begin, want := range map[string]bool{
		`{"result":{"supportedVersions":["2026-07-28","2025-11-25"]}}`: true,
		`{"result":{"supportedVersions": [ "2025-11-25" ]}}`:           false,
		`{"result":{"supportedVersions":["2026-07-`:                    false,
		`{"error":{"data":{"supported":["2026-07-28"]}}}`:              false,
		``: false,
	} {
		if got := m.discovered([]byte(begin)); got != want {
			t.Errorf("%s: %t", begin, got)
		}
	}
	if (&message{}).discovered([]byte(`"supportedVersions":[""]`)) {
		t.Error("no version is one")
	}
}

// FuzzMessage: whatever a body is, reading it ends, and what is made of it is what Rollcall takes.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"clientInfo":{"name":"n","hostname":"h"}}}`,
		`{"jsonrpc":"2.0","id":"\u00e9","method":"x","params":{"_meta":{"` + metaProtocolVersion + `":"v","` + metaClientInfo + `":{"name":"a","name":"b"}}}}`,
		`[{"jsonrpc":"2.0","result":{}},[[[`, `{"params":{"clientInfo":{"name":"\ud800"}}}`, "{\"params\":{\"clientInfo\":{\"a\":\"\xff\"}}}",
		`{"params":{"clientInfo":{"a":{"b":{"c":{"d":[[[]]]}}}}}}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, whole := range []bool{true, false} {
			m := readMessage(body, whole)
			if shown := shownInfo(m.clientInfo); shown != nil {
				if _, ok := acceptable(shown); !ok {
					t.Errorf("Rollcall would refuse %s", shown)
				}
			}
			im := readImplementation(m.clientInfo)
			if clip(im.Hostname) != clip(clip(im.Hostname)) || len(clip(im.Name)) > 256 {
				t.Errorf("%q", im)
			}
			if m.id != nil && !json.Valid(refuseRevoked.event(m.id)[len("event: message\ndata: "):]) {
				t.Errorf("the id %s breaks an answer", m.id)
			}
		}
	})
}
