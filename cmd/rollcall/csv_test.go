package main

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

func TestCSVCell(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"john@example.com":       "john@example.com",
		"=1+2":                   "'=1+2",
		"+49 30 1234":            "'+49 30 1234",
		"-2+3":                   "'-2+3",
		"@SUM(A1)":               "'@SUM(A1)",
		"  =cmd|' /C calc'!A0":   "'  =cmd|' /C calc'!A0",
		"\u3000＝1":               `\u3000＝1`,
		" ＝1":                    "' ＝1",
		"\t=1":                   `\t=1`, // no tab, no formula
		"\r\n=1":                 `\r\n=1`,
		"a,b\"c":                 "a,b\"c",
		"evil\u202egnp.exe\x1b[": `evil\u202egnp.exe\u001b[`,
		"'=1":                    "'=1",
		"5-3":                    "5-3",
	} {
		if got := csvCell(in); got != want {
			t.Errorf("csvCell(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestCSVIsRFC4180 holds that whatever clients sent, a reader gets the records back, one a line, and nothing that a spreadsheet or a
// terminal would obey.
func TestCSVIsRFC4180(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rows []api.Row
		for range rapid.IntRange(0, 4).Draw(t, "rows") {
			login := rapid.OneOf(hostile(), rapid.StringMatching(`[-+=@" ,'a]{0,6}`)).Draw(t, "login")
			rows = append(rows, api.Row{ServerID: "srv:1", ClientID: hostile().Draw(t, "client"), Login: &login})
		}
		var out bytes.Buffer
		if err := printRowsCSV(&out, rows); err != nil {
			t.Fatal(err)
		}
		if strings.Count(out.String(), "\r\n") != len(rows)+1 || strings.Count(out.String(), "\n") != len(rows)+1 {
			t.Fatalf("not a line each: %q", out.String())
		}
		records, err := csv.NewReader(bytes.NewReader(out.Bytes())).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"serverId", "ipAddress", "createdAt", "clientId", "login", "license"}, records[0]); diff != "" {
			t.Fatal(diff)
		}
		for i, record := range records[1:] {
			if want := printable(*rows[i].Login, 0); strings.TrimPrefix(record[4], "'") != strings.TrimPrefix(want, "'") {
				t.Fatalf("%q came back as %q", want, record[4])
			}
			for _, value := range record {
				if strings.IndexAny(strings.TrimSpace(value), "=+-@") == 0 {
					t.Fatalf("%q is a formula", value)
				}
				for _, r := range value {
					if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
						t.Fatalf("%q has %U", value, r)
					}
				}
			}
		}
	})
}
