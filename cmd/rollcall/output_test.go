package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rollcallhq/rollcall/api"
)

func TestPrintable(t *testing.T) {
	for _, tc := range []struct {
		in   string
		most int
		want string
	}{
		{"plain", 0, "plain"},
		{"søren レポート", 0, "søren レポート"},
		{"a\x1b[31mb\x07", 0, `a\u001b[31mb\u0007`},
		{"a\nb\r\tc", 0, `a\nb\r\tc`},
		{"evil\u202egnp.exe", 0, `evil\u202egnp.exe`},
		{"zero\u200bwidth\ufeff", 0, `zero\u200bwidth\ufeff`},
		{"line\u2028sep\u0085", 0, `line\u2028sep\u0085`},
		{"bad\xff\xfe", 0, `bad\xff\xfe`},
		{"real \ufffd", 0, "real \ufffd"},
		{"tag\U000e0041", 0, `tag\U000e0041`},
		{"<img onerror=x>", 0, "<img onerror=x>"},
		{"0123456789", 10, "0123456789"},
		{"0123456789x", 10, "012345678…"},
		{"レポートレポート", 8, "レポー…"},
		{strings.Repeat("\x00", 5000), 10, `\u0000…`},
		{"", 10, ""},
		{"Z" + strings.Repeat("\u0300", 6) + "x\u0301", 0, "Z" + strings.Repeat("\u0300", 4) + `\u0300\u0300x` + "\u0301"},
	} {
		if got := printable(tc.in, tc.most); got != tc.want {
			t.Errorf("printable(%q, %d) = %q, want %q", tc.in, tc.most, got, tc.want)
		}
	}
}

// TestTableAligns holds that whatever is in the cells, columns start where the head says, and nothing reaches a terminal that it
// would obey.
func TestTableAligns(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cell := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z]{0,60}`), rapid.SampledFrom([]string{"\u202e\x1b[2J", "日本語", "e\u0301", "\xff"}))
		tab := newTable("A", "B", "C")
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			tab.add(cell.Draw(t, "a"), cell.Draw(t, "b"), cell.Draw(t, "c"))
		}
		var out bytes.Buffer
		if err := tab.print(&out); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != len(tab.rows) {
			t.Fatalf("%d lines for %d rows: %q", len(lines), len(tab.rows), out.String())
		}
		for i, line := range lines {
			for _, r := range line {
				if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
					t.Fatalf("%q has %U", line, r)
				}
			}
			at := 0
			for c := range 2 {
				w := 0
				for _, row := range tab.rows {
					w = max(w, columnsOf(row[c]))
				}
				at += w + 2
				before, ok := cutColumns(line, at)
				if !ok || !strings.HasSuffix(before, "  ") {
					t.Fatalf("line %d, column %d of %q is not where it belongs", i, c+1, line)
				}
			}
		}
	})
}

// cutColumns returns the part of a line before a column.
func cutColumns(line string, at int) (string, bool) {
	for i := range line {
		if columnsOf(line[:i]) == at {
			return line[:i], true
		}
	}
	return line, columnsOf(line) == at
}

// TestJSONIsSafeAndTheSame holds that escapes change how a value is written, never the value.
func TestJSONIsSafeAndTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"\u202e\x1b\u0085\u2028\U000e0041<&>\"\\", "日本語"})).Draw(t, "s")
		var out bytes.Buffer
		if err := printLine(&out, map[string]string{"s": s}); err != nil {
			t.Fatal(err)
		}
		var back map[string]string
		if err := json.Unmarshal(out.Bytes(), &back); err != nil || back["s"] != strings.ToValidUTF8(s, "\ufffd") {
			t.Fatalf("%q came back as %q (%v)", s, back["s"], err)
		}
		if strings.Count(out.String(), "\n") != 1 || !utf8.Valid(out.Bytes()) {
			t.Fatalf("%q is not one line", out.String())
		}
		for _, r := range out.String() {
			if r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
				t.Fatalf("%q has %U", out.String(), r)
			}
		}
	})
}

func TestQuantiles(t *testing.T) {
	var samples []time.Duration
	for i := 100; i >= 1; i-- {
		samples = append(samples, time.Duration(i)*time.Millisecond)
	}
	if q := quantilesOf(samples); q != (quantiles{P50: 50, P99: 99, Max: 100, N: 100}) {
		t.Errorf("%+v", q)
	}
	if q := quantilesOf([]time.Duration{time.Second}); q != (quantiles{P50: 1000, P99: 1000, Max: 1000, N: 1}) {
		t.Errorf("%+v", q)
	}
	if q := quantilesOf(nil); q != (quantiles{}) {
		t.Errorf("%+v", q)
	}
}

// TestPersonasFitTheLimits holds that no demo client can be refused for what it says.
func TestPersonasFitTheLimits(t *testing.T) {
	seen := map[string]bool{}
	for range 2000 {
		p := newPersona()
		if n := len(p.ClientID); n < api.MinClientID || n > api.MaxClientID {
			t.Fatalf("client id %q", p.ClientID)
		}
		for _, s := range []string{p.Login, p.License, p.Hostname, p.UserAgent, p.document()} {
			if len(s) > api.MaxString || !utf8.ValidString(s) {
				t.Fatalf("%q", s)
			}
		}
		if p.ClientInfo != nil && (!json.Valid(p.ClientInfo) || len(p.ClientInfo) > api.MaxClientInfo) {
			t.Fatalf("%s", p.ClientInfo)
		}
		seen[p.Login] = true
	}
	if len(seen) < 500 {
		t.Errorf("only %d different logins", len(seen))
	}
}
