package registry

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
	"unsafe"

	"github.com/rollcallhq/rollcall/api"
)

// Query is an application, a search and a page: what an operator is looking at. Two equal normalized queries are one live query.
type Query struct {
	Organization api.OrganizationID
	Application  api.ApplicationID
	Search       string     // substring, compared under Unicode simple folding; "" = every row
	Categories   Categories // ignored when Search is empty; 0 = License
	Page         int        // from 1; less means 1
	PageSize     int        // 1–50; less means the default, more the maximum
	Totals       bool       // deltas carry Counts when they change
}

// Categories is a set of search columns.
type Categories uint8

// The members of Categories.
const (
	License  Categories = 1
	IP       Categories = 2
	ClientID Categories = 4
)

// categories lists the members in the order of an entry's texts.
var categories = [...]Categories{License, IP, ClientID}

// normalized returns the query in the one form that all queries with the same answers have.
func (q Query) normalized() Query {
	q.Search = fold(q.Search)
	if q.Categories &= License | IP | ClientID; q.Categories == 0 {
		q.Categories = License
	}
	if q.Search == "" {
		q.Categories = 0
	}
	q.Page = max(q.Page, 1)
	if q.PageSize < 1 {
		q.PageSize = api.DefaultPageSize
	}
	q.PageSize = min(q.PageSize, api.MaxPageSize)
	return q
}

// window returns the ranks of the page's rows among count rows that match: [from, to), empty past the end.
func (q *Query) window(count int) (from, to int) {
	from = count
	if q.Page-1 <= math.MaxInt/q.PageSize {
		from = min((q.Page-1)*q.PageSize, count)
	}
	return from, min(from+q.PageSize, count)
}

// contains tells whether any of the categories has a folded needle. A row without a license has no license to be found by.
func (e *entry) contains(needle string, in Categories) bool {
	var room [64]byte
	for i, c := range categories {
		if in&c == 0 {
			continue
		}
		text := e.text(i)
		if e.folded&c == 0 || i == textClient && !e.named {
			folded := e.appendFolded(room[:0], i)
			text = unsafe.String(unsafe.SliceData(folded), len(folded)) //nolint:gosec // read here, and written no more
		}
		if strings.Contains(text, needle) {
			return true
		}
	}
	return false
}

// fold maps strings that are equal under Unicode simple folding to one string. Folding both sides makes a bytewise substring
// search a case-insensitive one, because UTF-8 synchronizes itself. What needs no change shares s's memory.
func fold(s string) string { return strings.Map(foldRune, s) }

// appendFold appends fold(s), and does ASCII itself.
func appendFold(b []byte, s string) []byte {
	start := len(b)
	b = append(b, s...)
	for i, c := range b[start:] {
		switch {
		case c >= utf8.RuneSelf:
			return append(b[:start], fold(s)...)
		case 'A' <= c && c <= 'Z':
			b[start+i] = c + ('a' - 'A')
		}
	}
	return b
}

// foldRune returns the least rune of r's folding orbit, or its lower case when that is ASCII: addresses and ids mostly come in
// lower case, and then need no memory of their own.
func foldRune(r rune) rune {
	least := r
	if r >= utf8.RuneSelf {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
