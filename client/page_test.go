package client_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
	"github.com/rollcallhq/rollcall/client"
)

func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func sortRows(rows []api.Row) {
	slices.SortFunc(rows, func(a, b api.Row) int {
		return cmp.Or(cmp.Compare(b.CreatedAt, a.CreatedAt), cmp.Compare(b.ServerID, a.ServerID))
	})
}

// flush returns the messages that lead from one page to the next, in the order of G1.
func flush(from, to []api.Row) (messages []any) {
	find := func(rows []api.Row, id api.ServerID) int {
		return slices.IndexFunc(rows, func(r api.Row) bool { return r.ServerID == id })
	}
	var added, updated []any
	for _, r := range from {
		if find(to, r.ServerID) < 0 {
			messages = append(messages, api.RemovedMessage{Type: "removed", ServerID: r.ServerID})
		}
	}
	for _, r := range to {
		switch i := find(from, r.ServerID); {
		case i < 0:
			added = append(added, api.RowMessage{Type: "added", Row: r})
		case !gocmp.Equal(from[i], r):
			updated = append(updated, api.RowMessage{Type: "updated", Row: r})
		}
	}
	return append(append(messages, added...), updated...)
}

// TestPageIsTheSortedSet applies the flushes between random pages, rows added in random order, and compares with the sorted set.
func TestPageIsTheSortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.Custom(func(t *rapid.T) api.Row {
			n := rapid.IntRange(0, 20).Draw(t, "id")
			r := api.Row{ServerID: api.ServerID(fmt.Sprintf("srv:%02d", n)), CreatedAt: api.Millis(n / 4)} // equal times abound
			if rapid.Bool().Draw(t, "login") {
				login := rapid.StringN(0, 3, -1).Draw(t, "text")
				r.Login = &login
			}
			return r
		})
		const size = 8
		pages := rapid.SliceOfN(rapid.SliceOfNDistinct(row, 0, size, func(r api.Row) api.ServerID { return r.ServerID }), 1, 6).Draw(t, "pages")
		var p client.Page
		var before []api.Row
		for i, rows := range pages {
			messages := flush(before, rows)
			sortRows(rows)
			if i == 0 {
				messages = []any{api.Init{Type: "init", Success: true, View: api.View{Items: rows, Page: 1, PageSize: size}}}
			}
			for _, m := range messages {
				if err := p.Apply(mustJSON(m)); err != nil {
					t.Fatalf("%s: %v", mustJSON(m), err)
				}
				if !slices.IsSortedFunc(p.Items, func(a, b api.Row) int { return a.Position().Compare(b.Position()) }) || len(p.Items) > size {
					t.Fatalf("after %s the page is %s", mustJSON(m), mustJSON(p.Items))
				}
			}
			if diff := gocmp.Diff(rows, p.Items); len(rows)+len(p.Items) > 0 && diff != "" {
				t.Fatalf("page %d (-want +got):\n%s", i, diff)
			}
			before = slices.Clone(rows)
		}
	})
}

const (
	rowA    = `{"serverId":"srv:a","ipAddress":"203.0.113.1","createdAt":2,"clientId":"c","login":null,"license":null}`
	rowB    = `{"serverId":"srv:b","ipAddress":"203.0.113.1","createdAt":1,"clientId":"c","login":"l","license":"x"}`
	initMsg = `{"type":"init","success":true,"total":3,"filteredTotal":2,"authorizedSessionCount":1,"lastConnectionTime":7,"items":[` + rowA + `],"page":1,"pageSize":2}`
)

func TestPageRefusesWhatDoesNotFit(t *testing.T) {
	for _, tc := range []struct {
		name     string
		messages []string
		fits     bool
	}{
		{"init", []string{initMsg}, true},
		{"init twice", []string{initMsg, initMsg}, true},
		{"added", []string{initMsg, `{"type":"added","row":` + rowB + `}`}, true},
		{"updated", []string{initMsg, `{"type":"updated","row":` + rowA + `}`}, true},
		{"removed", []string{initMsg, `{"type":"removed","serverId":"srv:a"}`}, true},
		{"unknown type", []string{initMsg, `{"type":"later","row":1}`}, true},
		{"error", []string{`{"type":"error","success":false,"code":"x","message":"y"}`}, true},
		{"added before init", []string{`{"type":"added","row":` + rowB + `}`}, false},
		{"removed before init", []string{`{"type":"removed","serverId":"srv:a"}`}, false},
		{"totals before init", []string{`{"type":"totals","total":1}`}, false},
		{"added again", []string{initMsg, `{"type":"added","row":` + rowA + `}`}, false},
		{"added to a full page", []string{initMsg, `{"type":"added","row":` + rowB + `}`, `{"type":"added","row":{"serverId":"srv:c"}}`}, false},
		{"added without row", []string{initMsg, `{"type":"added"}`}, false},
		{"updated, not there", []string{initMsg, `{"type":"updated","row":` + rowB + `}`}, false},
		{"updated to another place", []string{initMsg, `{"type":"updated","row":{"serverId":"srv:a","createdAt":9}}`}, false},
		{"updated without row", []string{initMsg, `{"type":"updated"}`}, false},
		{"removed, not there", []string{initMsg, `{"type":"removed","serverId":"srv:b"}`}, false},
		{"removed without id", []string{initMsg, `{"type":"removed"}`}, false},
		{"time without value", []string{initMsg, `{"type":"last_connection_time"}`}, false},
		{"init out of order", []string{`{"type":"init","items":[` + rowB + `,` + rowA + `],"pageSize":10}`}, false},
		{"init with a row twice", []string{`{"type":"init","items":[` + rowA + `,` + rowA + `],"pageSize":10}`}, false},
		{"init longer than its page", []string{`{"type":"init","items":[` + rowA + `,` + rowB + `],"pageSize":1}`}, false},
		{"init with wrong types", []string{`{"type":"init","total":"3"}`}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p client.Page
			var err error
			for i, m := range tc.messages {
				if err != nil {
					t.Fatalf("message %d: %v", i, err)
				}
				err = p.Apply([]byte(m))
			}
			if tc.fits != (err == nil) || (err != nil && !errors.Is(err, client.ErrOutOfStep)) {
				t.Errorf("error %v, want it to fit: %v", err, tc.fits)
			}
		})
	}
	for _, bad := range []string{``, `x`, `[]`, `{"type":1}`, `{"type":"added","row":[]}`, "\xff"} {
		if err := new(client.Page).Apply([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestPageFollowsCountsAndClones(t *testing.T) {
	var p client.Page
	for _, m := range []string{
		initMsg, `{"type":"last_connection_time","value":99}`, `{"type":"totals","total":5,"filteredTotal":4,"authorizedSessionCount":3}`,
	} {
		if err := p.Apply([]byte(m)); err != nil {
			t.Fatal(err)
		}
	}
	want := api.Counts{Total: 5, FilteredTotal: 4, AuthorizedSessionCount: 3}
	if p.Counts != want || p.LastConnectionTime != 99 {
		t.Errorf("counts %+v, last connection %d", p.Counts, p.LastConnectionTime)
	}
	c := p.Clone()
	if err := p.Apply([]byte(`{"type":"removed","serverId":"srv:a"}`)); err != nil || len(c.Items) != 1 || c.Items[0].ServerID != "srv:a" {
		t.Errorf("the clone changed: %+v (%v)", c.Items, err)
	}
}

// FuzzPage feeds a page with lines of anything: it may refuse, but never lose its order or bounds.
func FuzzPage(f *testing.F) {
	f.Add([]byte(initMsg + "\n" + `{"type":"added","row":` + rowB + `}`))
	f.Add([]byte(initMsg + "\n" + `{"type":"removed","serverId":"srv:a"}` + "\n" + `{"type":"totals"}`))
	f.Add([]byte(`{"type":"init","items":null,"pageSize":-1}` + "\n" + `{"type":"added","row":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p client.Page
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			if err := p.Apply(line); err != nil {
				return
			}
			if len(p.Items) > max(p.PageSize, 0) {
				t.Fatalf("%d rows on a page of %d", len(p.Items), p.PageSize)
			}
			for i := 1; i < len(p.Items); i++ {
				if p.Items[i-1].Position().Compare(p.Items[i].Position()) >= 0 {
					t.Fatalf("row %d is out of order", i)
				}
			}
		}
	})
}
