package registry

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A signature never hides what is there, whatever the needle, and mostly shows what is not.
func TestSignatureHidesNoMatch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		license := rapid.StringN(0, 40, 200).Draw(t, "license")
		e := testEntry(t, 1, license)
		var has signature
		has.sign(e)
		folded := fold(license)
		from := rapid.IntRange(0, len(folded)).Draw(t, "from")
		to := rapid.IntRange(from, len(folded)).Draw(t, "to")
		f := newFinder(&Query{Search: folded[from:to], Categories: License})
		if !f.finds(e, &has) {
			t.Fatalf("%q is not found in %q", f.needle, folded)
		}
	})
	w := newWorld()
	passed := 0
	for i := range 1000 {
		e, _ := newEntry(new(benchRow(w, i)), 0, nil)
		var has signature
		has.sign(e)
		f := finder{bits: newFinder(&Query{Search: "xyz", Categories: License}).bits} // an empty needle is everywhere
		if f.finds(e, &has) {
			passed++
		}
	}
	if passed > 20 {
		t.Errorf("%d of 1000 rows seem to have a needle that none has", passed)
	}
}

// Pages of one search are told of a change together, and nothing stays of them.
func TestPagesShareAFinder(t *testing.T) {
	w := newWorld()
	w.open(50)
	a := w.applications[testApplication(0)]
	var watches []*Watch
	for i := range 12 {
		q := w.query(1+i/3, 5)
		q.Search, q.Categories = strings.Repeat("0", i%3), []Categories{License, License, ClientID}[i%3]
		_, watch := w.Watch(q)
		watches = append(watches, watch)
	}
	if len(a.finders) != 3 {
		t.Errorf("%d finders for 3 needles", len(a.finders))
	}
	for _, watch := range watches {
		watch.Close()
	}
	if a.finders != nil || a.queries != nil {
		t.Errorf("%d finders and %d queries are left", len(a.finders), len(a.queries))
	}
}
