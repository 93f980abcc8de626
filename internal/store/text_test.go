package store_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollcallhq/rollcall/internal/store"
)

// FuzzText holds the spelling of text in SQL to its promises: it is reversible, has neither NUL nor anything that is not UTF-8,
// and keeps the order of valid text.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00", "\x01", "\x01\x01", "\x01\x02", "\x01\x03ff", "\xff", "\xff\x00\x01\xc3",
		"a\x00b", "🦊\x00שלום",
		"\xed\xa0\x80", "\ufffd", "\xc3\x28", "\x01\x03"} {
		f.Add(s, "a"+s)
		f.Add(s, "\x00"+s)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		ea, eb := store.Escape(a), store.Escape(b)
		if got := store.Unescape(ea); got != a {
			t.Errorf("%q was stored as %q and came back as %q", a, ea, got)
		}
		if strings.Contains(ea, "\x00") || !utf8.ValidString(ea) {
			t.Errorf("%q is stored as %q", a, ea)
		}
		if utf8.ValidString(a) && utf8.ValidString(b) && strings.Compare(a, b) != strings.Compare(ea, eb) {
			t.Errorf("%q and %q are in another order as %q and %q", a, b, ea, eb)
		}
		_ = store.Unescape(a) // what was never escaped does no harm
	})
}
