package registry

import (
	"math"
	"strings"
	"unicode"
	"unicode/utf8"

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

// categories lists the members in the order of entry.folded.
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

// matches tells whether a normalized query's search finds the row. A row without a license has no license to be found by.
func (q *Query) matches(e *entry) bool {
	if q.Search == "" {
		return true
	}
	for i, c := range categories {
		if q.Categories&c != 0 && strings.Contains(e.folded[i], q.Search) {
			return true
		}
	}
	return false
}

// fold maps strings that are equal under Unicode simple folding to one string. Folding both sides makes a bytewise substring
// search a case-insensitive one, because UTF-8 synchronizes itself. What needs no change shares s's memory.
func fold(s string) string { return strings.Map(foldRune, s) }

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
